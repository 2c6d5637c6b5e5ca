"""Not frozen: a copy of the whole encoder learns with the paper's head, at a tenth of the head's rate."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from braindino.fitting import tuning
from braindino.fitting.tuning import Tuned, features_of, tune
from braindino.heads import Live, slice_model
from braindino.types import Kind

NAME = "tuned"
STEPS = tuning.STEPS
RATE = 3e-5
"""Of the encoder, as the paper's code has it where it segments."""


@dataclass(frozen=True)
class Fitted:
    """A head, and every weight of the encoder that it was learned in."""

    needs: ClassVar[Literal["gradient"]] = "gradient"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression", "survival")

    learned: Tuned

    def state(self) -> dict[str, np.ndarray]:
        """Weights of head and encoder."""
        return self.learned.state()

    def predict(self, x: Live) -> Float[np.ndarray, "subject output"]:
        """Class probabilities, the regressed value, or the log hazard.

        Raises:
            ValueError: as `slice_model`.
        """
        model: Any = deepcopy(slice_model(x.encoder, NAME))
        weights = {name: torch.from_numpy(np.array(array)) for name, array in self.learned.inside.items()}
        told = model.load_state_dict(weights, strict=False)
        assert not told.unexpected_keys
        return self.learned.network.answers((features_of(model, x.pictures),))


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    return Fitted(tuning.from_state(state))


def fit(
    x: Live, y: np.ndarray, validation: tuple[Live, np.ndarray], *, kind: Kind, seed: int = 0, steps: int = STEPS
) -> Fitted:
    """Learn head (rate 3e-4) and a copy of the encoder (3e-5) by `tuning.tune`; `seed` draws weights and batches.

    Raises:
        ValueError: a task of another kind, or as `slice_model` and `tuning.tune`.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the tuned head serves {', '.join(Fitted.kinds)}, not {kind}")
    model: Any = deepcopy(slice_model(x.encoder, NAME)).requires_grad_(True)
    trained = dict(model.named_parameters())
    held, truth = validation
    return Fitted(tune(NAME, model, trained, RATE, x.pictures, y, (held.pictures, truth), kind, seed, steps))
