"""Cox head: ridge-penalised proportional hazards on principal components, strength chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from braindino.fitting.components import components
from braindino.fitting.targets import check_events
from braindino.types import Kind

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-2, 9))
"""Ridge penalty, 0.1 to 1e4, where the first component has unit variance."""
MAX_COMPONENTS = 64


@dataclass(frozen=True)
class Fitted:
    """A linear log hazard, 0 for the median training subject."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = ("survival",)

    weights: Float[np.ndarray, " feature"]
    bias: float
    strength: float

    def state(self) -> dict[str, np.ndarray]:
        """Weights, bias and the chosen strength."""
        return {"weights": self.weights, "bias": np.array([self.bias]), "strength": np.array([self.strength])}

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject 1"]:
        """Log hazard against the median training subject: at 0 and above a subject counts as high risk."""
        return np.asarray(x @ self.weights + self.bias)[:, None]


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    return Fitted(np.asarray(state["weights"], float), float(state["bias"][0]), float(state["strength"][0]))


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: Float[np.ndarray, "subject 2"],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """Maximise log partial likelihood - strength |b|^2 / 2 over all training subjects at once; censored ones stay.

    Features are standardised and reduced to their first min(events / 2, subjects - 1, 64) principal components,
    all divided by the deviation of the first one, so that the penalty weighs most on the components that vary
    least; all of it is learned on the training subjects. The strength with the highest
    partial likelihood of the validation subjects is kept, of equals the strongest. Ties by Efron. Deterministic:
    `seed` has no influence.

    Raises:
        ValueError: a task of another kind, times that are not finite, fewer than two events in training or none
            in validation.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the cox head serves survival, not {kind}")
    events = check_events(y, 2, "training", "cox")
    check_events(validation[1], 1, "validation", "cox")
    space = components(x, min(events // 2, MAX_COMPONENTS))
    train, seen = _RiskSets.of(space.of(x), y), _RiskSets.of(space.of(validation[0]), validation[1])
    best: tuple[float, float, np.ndarray] | None = None
    beta = np.zeros(space.rotation.shape[1])
    for strength in sorted(STRENGTHS, reverse=True):
        beta = maximise(train, strength, beta)
        likelihood = seen.derivatives(beta)[0]
        if best is None or likelihood > best[0]:
            best = (likelihood, strength, beta)
    assert best is not None
    weights = space.rotation @ best[2]
    return Fitted(weights, -float(np.median(x @ weights)), best[1])


def maximise(
    sets: _RiskSets, strength: float, beta: Float[np.ndarray, " component"]
) -> Float[np.ndarray, " component"]:
    """Newton's method with step halving on the penalised log partial likelihood, which is strictly concave."""
    value, slope, curvature = sets.derivatives(beta)
    value -= strength * float(beta @ beta) / 2
    for _ in range(100):
        gradient = slope - strength * beta
        step = np.linalg.solve(curvature + strength * np.eye(len(beta)), gradient)
        if float(gradient @ step) < 1e-12 * (1 + abs(value)):
            break
        size, moved = 1.0, -np.inf
        while size > 1e-6:
            new = sets.derivatives(beta + size * step)
            moved = new[0] - strength * float(np.sum((beta + size * step) ** 2)) / 2
            if moved >= value:
                break
            size /= 2
        if moved < value:
            break
        beta, value, (_, slope, curvature) = beta + size * step, moved, new
    return beta


@dataclass(frozen=True)
class _RiskSets:
    """Subjects by falling time, so that a cumulative sum runs over a risk set; one row per event.

    Efron: the l-th of d events at one time sees a risk set in which those d count (1 - l / d).
    """

    x: Float[np.ndarray, "subject component"]
    event: Bool[np.ndarray, " subject"]
    last: np.ndarray
    """Of each event: the index of the last subject with its time, where its risk set ends."""
    share: Float[np.ndarray, " event"]
    """Of each event: l / d."""
    tie: np.ndarray
    """Of each event: the number of its time among the distinct event times, in order."""

    @staticmethod
    def of(x: np.ndarray, y: np.ndarray) -> _RiskSets:
        order = np.argsort(-y[:, 0], kind="stable")
        time, event = y[order, 0], y[order, 1].astype(bool)
        times = time[event]
        _, tie, count = np.unique(-times, return_inverse=True, return_counts=True)
        rank = np.arange(len(times)) - (np.cumsum(count) - count)[tie]
        return _RiskSets(x[order], event, np.searchsorted(-time, -times, side="right") - 1, rank / count[tie], tie)

    def derivatives(self, beta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Log partial likelihood, its gradient, and minus its Hessian."""
        eta = self.x @ beta
        top = eta.max()
        hazard = np.exp(eta - top)
        weighted = hazard[:, None] * self.x
        at_risk = np.cumsum(hazard)[self.last] - self.share * self._ties(hazard)
        mean = (np.cumsum(weighted, 0)[self.last] - self.share[:, None] * self._ties(weighted)) / at_risk[:, None]
        value = float(np.sum(eta[self.event] - top - np.log(at_risk)))
        # How much each subject counts in all the risk sets that hold it, as a sum of probabilities.
        ends = np.bincount(self.last, weights=1 / at_risk, minlength=len(eta))
        counted = hazard * np.cumsum(ends[::-1])[::-1]
        counted[self.event] -= hazard[self.event] * self._ties_of_events(self.share / at_risk)
        gradient = self.x[self.event].sum(0) - mean.sum(0)
        return value, gradient, self.x.T @ (counted[:, None] * self.x) - mean.T @ mean

    def _ties(self, values: np.ndarray) -> np.ndarray:
        return self._ties_of_events(values[self.event])

    def _ties_of_events(self, values: np.ndarray) -> np.ndarray:
        """Of each event: the sum of `values` over the events at the same time."""
        sums = np.zeros((int(self.tie.max()) + 1, *values.shape[1:]))
        np.add.at(sums, self.tie, values)
        return np.asarray(sums[self.tie])
