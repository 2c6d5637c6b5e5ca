"""Attention pooling: a learned weighting of the slices by what they show and where they lie, instead of their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from braindino.fitting.network import Network, from_arrays, train, zeroed
from braindino.fitting.places import Places
from braindino.heads import Views, check_contrasts
from braindino.types import Kind

WIDTH = 64
POOLS = 4
"""Weightings of the views that are learned side by side."""


@dataclass(frozen=True)
class Fitted:
    """Weights over views, and a linear map of what they gather."""

    needs: ClassVar[Literal["views"]] = "views"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression", "survival")

    network: Network

    def state(self) -> dict[str, np.ndarray]:
        """Standardisation, weights, and the contrast of each view."""
        return self.network.state()

    def predict(self, x: Views) -> Float[np.ndarray, "subject output"]:
        """Class probabilities, the regressed value, or the log hazard.

        Raises:
            ValueError: views of other contrasts than in training.
        """
        check_contrasts(self.network.state()["inner.places.contrast"], x)
        return self.network.answers((x.values, x.position_mm))


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    pool = _Pool(len(state["mean"]), len(state["unit"]), state["inner.places.contrast"])
    return Fitted(from_arrays(pool, state))


def fit(x: Views, y: np.ndarray, validation: tuple[Views, np.ndarray], *, kind: Kind, seed: int = 0) -> Fitted:
    """Learn the weighting and the answer together, by `network.train`; it starts from the mean over views.

    `seed` draws the weights and the order of the subjects.

    Raises:
        ValueError: a task of another kind, views of other contrasts in validation, or as `network.train`.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the attention_pool head serves {', '.join(Fitted.kinds)}, not {kind}")
    held, truth = validation
    check_contrasts(x.contrast, held)
    rows, seen = (x.values, x.position_mm), (held.values, held.position_mm)
    dim = x.values.shape[2]
    return Fitted(train(lambda outputs: _Pool(dim, outputs, x.contrast), rows, y, (seen, truth), kind, seed))


class _Pool(nn.Module):
    """h = Linear(LayerNorm(view)); a = softmax over views of w tanh(h + place); answer = Linear(GELU(sum of a h))."""

    def __init__(self, dim: int, outputs: int, contrast: Integer[np.ndarray, " view"]) -> None:
        super().__init__()
        self.norm, self.project = nn.LayerNorm(dim), nn.Linear(dim, WIDTH)
        self.places = Places(WIDTH, contrast)
        self.score = zeroed(nn.Linear(WIDTH, POOLS))
        self.last = zeroed(nn.Linear(POOLS * WIDTH, outputs))

    def forward(self, values: Tensor, position_mm: Tensor) -> Tensor:
        shown = self.project(self.norm(values))
        share = self.score((shown + self.places(position_mm)).tanh()).softmax(1)
        gathered = einsum("svp,svw->spw", share, shown).flatten(1)
        out: Tensor = self.last(F.gelu(gathered))
        return out
