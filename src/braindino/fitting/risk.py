"""The risk that divides high from low: the median of the training subjects'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Threshold:
    """Whoever has this risk or a higher one is of the high-risk group."""

    risk: float

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned."""
        return {"risk": np.array([self.risk])}


def from_state(state: Mapping[str, np.ndarray]) -> Threshold:
    """The inverse of `Threshold.state`."""
    return Threshold(float(state["risk"][0]))


def fit_threshold(risk: Float[np.ndarray, " case"]) -> Threshold:
    """The median risk of the training cases."""
    return Threshold(float(np.median(risk)))
