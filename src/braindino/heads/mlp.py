"""The paper's head: LayerNorm, linear, GELU, linear on the mean over slices, stopped early on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from braindino.fitting.network import Network, from_arrays, perceptron, train
from braindino.types import Kind


@dataclass(frozen=True)
class Fitted:
    """A network with one hidden layer as wide as the features."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression", "survival")

    network: Network

    def state(self) -> dict[str, np.ndarray]:
        """Standardisation and weights."""
        return self.network.state()

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject output"]:
        """Class probabilities, the regressed value, or the log hazard."""
        return self.network.answers((x,))


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    return Fitted(from_arrays(perceptron(len(state["mean"]), len(state["unit"])), state))


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """LayerNorm(D), Linear(D, D), GELU, Linear(D, outputs), as arXiv 2604.27277; losses and loop as `network.train`.

    `seed` draws the weights and the order of the subjects.

    Raises:
        ValueError: a task of another kind, or as `network.train`.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the mlp head serves {', '.join(Fitted.kinds)}, not {kind}")
    held, truth = validation
    return Fitted(train(lambda outputs: perceptron(x.shape[1], outputs), (x,), y, ((held,), truth), kind, seed))
