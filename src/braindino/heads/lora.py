"""Not frozen: maps of low rank (LoRA) beside the attention of a copy of the encoder learn with the paper's head."""

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

NAME = "lora"
STEPS = tuning.STEPS
RATE = 3e-4
RANK = 8
SCALE = 2.0
"""alpha / rank of LoRA (arXiv 2106.09685)."""
PLACES = r"blocks\.\d+\.attn\.(qkv|proj)"
"""The linear layers that get a map: queries, keys and values, and what follows the attention."""


@dataclass(frozen=True)
class Fitted:
    """A head, and the two factors A (rank, in) and B (out, rank) of every map, as `LAYER.A` and `LAYER.B`."""

    needs: ClassVar[Literal["gradient"]] = "gradient"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression", "survival")

    learned: Tuned

    def state(self) -> dict[str, np.ndarray]:
        """Weights of the head, and the factors."""
        return self.learned.state()

    def predict(self, x: Live) -> Float[np.ndarray, "subject output"]:
        """Class probabilities, the regressed value, or the log hazard; of the encoder with W + 2 B A in place of W.

        Raises:
            ValueError: as `slice_model`.
        """
        model: Any = deepcopy(slice_model(x.encoder, NAME))
        factors = {name: torch.from_numpy(np.array(array)) for name, array in self.learned.inside.items()}
        for name in [name.removesuffix(".A") for name in factors if name.endswith(".A")]:
            weight = model.get_submodule(name).weight
            weight.data += (SCALE * factors[f"{name}.B"] @ factors[f"{name}.A"]).to(weight.device)
        return self.learned.network.answers((features_of(model, x.pictures),))


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    return Fitted(tuning.from_state(state))


def fit(
    x: Live, y: np.ndarray, validation: tuple[Live, np.ndarray], *, kind: Kind, seed: int = 0, steps: int = STEPS
) -> Fitted:
    """Learn head and maps (rate 3e-4) by `tuning.tune`, with PEFT's LoRA; `seed` draws weights and batches.

    B starts as 0, so that the first step is taken from the encoder as it is.

    Raises:
        ValueError: a task of another kind, PEFT is missing, or as `slice_model` and `tuning.tune`.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the lora head serves {', '.join(Fitted.kinds)}, not {kind}")
    model: Any = deepcopy(slice_model(x.encoder, NAME))
    trained = _with_maps(model, seed)
    held, truth = validation
    return Fitted(tune(NAME, model, trained, RATE, x.pictures, y, (held.pictures, truth), kind, seed, steps))


def _with_maps(model: Any, seed: int) -> dict[str, torch.nn.Parameter]:
    """Put the maps into the model; their factors by name, the only parameters that are trained."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("head 'lora' needs PEFT: pip install 'braindino[lora]'") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=int(SCALE * RANK), target_modules=PLACES), model)
    model.eval()
    return {
        name.replace(".lora_A.default.weight", ".A").replace(".lora_B.default.weight", ".B"): one
        for name, one in model.named_parameters()
        if ".lora_" in name
    }
