"""Calibration of class probabilities on the validation subjects: one temperature, or one isotonic curve per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from braindino.types import Calibration

LEAST = 1e-12
"""Smallest probability whose logarithm is taken."""
RANGE = (0.02, 50.0)
"""Temperatures that are tried."""


@dataclass(frozen=True)
class Temperature:
    """softmax(log p / value): above 1 the probabilities become milder, below 1 sharper; their order stays."""

    value: float

    def apply(self, probabilities: Float[np.ndarray, "subject class"]) -> Float[np.ndarray, "subject class"]:
        """Calibrated probabilities."""
        return np.asarray(softmax(_logits(probabilities) / self.value, axis=1))

    def state(self) -> dict[str, np.ndarray]:
        """The temperature."""
        return {"temperature": np.array([self.value])}


@dataclass(frozen=True)
class Isotonic:
    """A rising curve for each class (linear between its knots), then division by the sum over the classes."""

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Of each class: probabilities said, shares found."""

    def apply(self, probabilities: Float[np.ndarray, "subject class"]) -> Float[np.ndarray, "subject class"]:
        """Calibrated probabilities."""
        found = np.stack([np.interp(p, *knots) for p, knots in zip(probabilities.T, self.knots, strict=True)], 1)
        return np.asarray(found / found.sum(1, keepdims=True))

    def state(self) -> dict[str, np.ndarray]:
        """The knots (2, knot) of each class."""
        return {f"isotonic_{number}": np.stack(knots) for number, knots in enumerate(self.knots)}


def from_state(state: Mapping[str, np.ndarray]) -> Temperature | Isotonic:
    """The inverse of `state()`."""
    if "temperature" in state:
        return Temperature(float(state["temperature"][0]))
    curves = (np.asarray(state[f"isotonic_{number}"], float) for number in range(len(state)))
    return Isotonic(tuple((curve[0], curve[1]) for curve in curves))


def fit_calibration(
    method: Calibration,
    probabilities: Float[np.ndarray, "subject class"],
    labels: Int[np.ndarray, " subject"],
    weight: Float[np.ndarray, " subject"],
) -> Temperature | Isotonic:
    """Learn it on subjects that the head was not fitted on.

    Temperature: the value with the least log-loss (Guo 2017). Isotonic: least squares of each class against the rest
    (Zadrozny and Elkan 2002), between 1 / (n + 2) and 1 minus it, since n subjects never prove that a class cannot be;
    it needs more subjects, and a value that it never saw gets that of the nearest.

    Args:
        method: which.
        probabilities: of the head.
        labels: index of the true class.
        weight: of each row; 1 / sessions where a subject has several.

    Raises:
        ValueError: an unknown method, or a class without a validation subject.
    """
    if method not in ("temperature", "isotonic"):
        raise ValueError(f"unknown calibration {method!r}; known: temperature, isotonic")
    missing = set(range(probabilities.shape[1])) - set(labels.tolist())
    if missing:
        raise ValueError(f"calibration needs a validation subject of each class; class number {min(missing)} has none")
    if method == "isotonic":
        curves = [_rising(p, labels == number, weight) for number, p in enumerate(probabilities.T)]
        return Isotonic(tuple(curves))
    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        chosen = log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels]
        return -float(weight @ chosen)

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-6})
    return Temperature(float(np.exp(found.x)))


def _rising(said: np.ndarray, true: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (weight.sum() + 2)
    curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    curve.fit(said, true.astype(float), weight)
    return np.asarray(curve.X_thresholds_, float), np.asarray(curve.y_thresholds_, float)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(probabilities, LEAST)))
