"""Slice transformer: self-attention over the slices of a scan, so that one slice is read in the light of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor, nn

from braindino.fitting.network import Network, from_arrays, train, zeroed
from braindino.fitting.places import Places
from braindino.heads import Views, check_contrasts
from braindino.types import Kind

WIDTH = 64
LAYERS = 2
ATTENTION_HEADS = 4
DROPOUT = 0.1


@dataclass(frozen=True)
class Fitted:
    """A small transformer over views."""

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
    layers = _Layers(len(state["mean"]), len(state["unit"]), state["inner.places.contrast"])
    return Fitted(from_arrays(layers, state))


def fit(x: Views, y: np.ndarray, validation: tuple[Views, np.ndarray], *, kind: Kind, seed: int = 0) -> Fitted:
    """Learn two pre-norm transformer layers over all views of a subject, by `network.train`.

    `seed` draws the weights, dropout and the order of the subjects.

    Raises:
        ValueError: a task of another kind, views of other contrasts in validation, or as `network.train`.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the slice_transformer head serves {', '.join(Fitted.kinds)}, not {kind}")
    held, truth = validation
    check_contrasts(x.contrast, held)
    rows, seen = (x.values, x.position_mm), (held.values, held.position_mm)
    dim = x.values.shape[2]
    return Fitted(train(lambda outputs: _Layers(dim, outputs, x.contrast), rows, y, (seen, truth), kind, seed))


class _Layers(nn.Module):
    """Token of a view = Linear(LayerNorm(view)) + place; layers; answer = Linear(LayerNorm(mean of the tokens))."""

    def __init__(self, dim: int, outputs: int, contrast: Integer[np.ndarray, " view"]) -> None:
        super().__init__()
        self.norm, self.project = nn.LayerNorm(dim), nn.Linear(dim, WIDTH)
        self.places = Places(WIDTH, contrast)
        self.layers = nn.ModuleList(_layer() for _ in range(LAYERS))
        self.final, self.last = nn.LayerNorm(WIDTH), zeroed(nn.Linear(WIDTH, outputs))

    def forward(self, values: Tensor, position_mm: Tensor) -> Tensor:
        tokens = self.project(self.norm(values)) + self.places(position_mm)
        for layer in self.layers:
            tokens = layer(tokens)
        out: Tensor = self.last(self.final(tokens).mean(1))
        return out


def _layer() -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(
        WIDTH, ATTENTION_HEADS, 2 * WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = 0.0  # with it, torch would hold every weight of every pair of views
    return layer
