"""Discrete-time survival: a logistic hazard for each interval of follow-up; gives risks and survival curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from braindino.fitting.components import components
from braindino.fitting.targets import check_events, check_rows
from braindino.types import Kind

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-2, 9))
"""Ridge penalty, 0.1 to 1e4, where the first component has unit variance."""
MAX_COMPONENTS = 64
MAX_INTERVALS = 10
EVENTS_PER_INTERVAL = 5


@dataclass(frozen=True)
class Fitted:
    """Log odds of the hazard in interval j = base_j + linear predictor, 0 for the median training subject."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = ("survival",)

    weights: Float[np.ndarray, " feature"]
    bias: float
    base: Float[np.ndarray, " interval"]
    ends: Float[np.ndarray, " interval"]
    """Last moment of each interval, in the unit of the task's times."""
    strength: float

    def state(self) -> dict[str, np.ndarray]:
        """Weights, bias, base log odds, interval ends and the chosen strength."""
        arrays = {"weights": self.weights, "base": self.base, "ends": self.ends}
        return arrays | {"numbers": np.array([self.bias, self.strength])}

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject 1"]:
        """Log odds of the hazard against the median training subject: higher means earlier."""
        return np.asarray(x @ self.weights + self.bias)[:, None]

    def survival(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject interval"]:
        """Probability of no event up to each of `ends`: the product of 1 - hazard over the intervals so far."""
        return np.asarray(np.cumprod(expit(-(self.predict(x) + self.base)), axis=1))


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    weights, base, ends = (np.asarray(state[name], float) for name in ("weights", "base", "ends"))
    return Fitted(weights, float(state["numbers"][0]), base, ends, float(state["numbers"][1]))


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: Float[np.ndarray, "subject 2"],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """Maximise the log-likelihood of the logistic hazard - strength |b|^2 / 2 (Brown 1975; Gensheimer 2019).

    The intervals end at quantiles of the training event times, at least `EVENTS_PER_INTERVAL` events in each where
    they are not tied, at most `MAX_INTERVALS`. A subject is at risk in an interval whose start it has outlived without
    event; a censored one only in those that it has seen to their end. One subject more in each interval, half with
    and half without event, keeps the base finite where all who are at risk have the event. Features are reduced as in
    the cox head. The strength with the highest likelihood of the validation subjects is kept, of equals the strongest.
    Deterministic: `seed` has no influence.

    Raises:
        ValueError: a task of another kind, features or times that are not finite, fewer than two events in training or
            none in validation.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the discrete_time head serves survival, not {kind}")
    check_rows(x, y, "training")
    check_rows(*validation, "validation")
    events = check_events(y, 2, "training", "discrete_time")
    check_events(validation[1], 1, "validation", "discrete_time")
    ends = interval_ends(y, events)
    space = components(x, min(events // 2, MAX_COMPONENTS))
    z, held = space.of(x), space.of(validation[0])
    at_risk, happened = _seen(y, ends)
    share = (happened.sum(0) + 0.5) / (at_risk.sum(0) + 1.0)
    start = np.concatenate([logit(share), np.zeros(z.shape[1])])
    best: tuple[float, float, np.ndarray] | None = None
    for strength in sorted(STRENGTHS, reverse=True):
        start = _minimum(z, at_risk, happened, strength, start)
        loss = _loss(start, held, *_seen(validation[1], ends))[0]
        if best is None or loss < best[0]:
            best = (loss, strength, start)
    assert best is not None
    base, weights = best[2][: len(ends)], space.rotation @ best[2][len(ends) :]
    middle = float(np.median(x @ weights))
    return Fitted(weights, -middle, base + middle - float(space.mean @ weights), ends, best[1])


def interval_ends(y: Float[np.ndarray, "subject 2"], events: int) -> Float[np.ndarray, " interval"]:
    """Quantiles of the event times, the last one the latest event; distinct."""
    count = min(MAX_INTERVALS, max(1, events // EVENTS_PER_INTERVAL))
    times = y[y[:, 1] > 0, 0]
    return np.unique(np.quantile(times, np.arange(1, count + 1) / count, method="inverted_cdf"))


def _seen(
    y: Float[np.ndarray, "subject 2"], ends: Float[np.ndarray, " interval"]
) -> tuple[Bool[np.ndarray, "subject interval"], Bool[np.ndarray, "subject interval"]]:
    """In which intervals a subject is at risk, and in which of them its event happens."""
    time, event = y[:, :1], y[:, 1:] > 0
    starts = np.concatenate([[-np.inf], ends[:-1]])
    happened = event & (time > starts) & (time <= ends)
    return (time >= ends) | happened, happened


def _minimum(
    z: np.ndarray, at_risk: np.ndarray, happened: np.ndarray, strength: float, start: np.ndarray
) -> np.ndarray:
    """Newton's method within a trust region on the penalised loss, which is strictly convex."""

    def penalised(parameters: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        value, gradient, curvature = _loss(parameters, z, at_risk, happened)
        base, slope = np.split(parameters, [at_risk.shape[1]])
        value += float(np.sum(np.logaddexp(0, base) - base / 2)) + strength * float(slope @ slope) / 2
        even = expit(base)
        bend = np.concatenate([even * (1 - even), np.full(len(slope), strength)])
        return value, gradient + np.concatenate([even - 0.5, strength * slope]), curvature + np.diag(bend)

    options = {"gtol": 1e-8, "maxiter": 200}
    part = [lambda p, which=which: penalised(p)[which] for which in range(3)]
    return np.asarray(minimize(part[0], start, method="trust-exact", jac=part[1], hess=part[2], options=options).x)


def _loss(
    parameters: np.ndarray, z: np.ndarray, at_risk: np.ndarray, happened: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Negative log-likelihood, its gradient and its Hessian in (base, b)."""
    base, slope = np.split(parameters, [at_risk.shape[1]])
    odds = base + (z @ slope)[:, None]
    hazard = expit(odds)
    value = float(np.sum(np.where(at_risk, np.logaddexp(0, odds) - happened * odds, 0)))
    excess = at_risk * (hazard - happened)
    gradient = np.concatenate([excess.sum(0), z.T @ excess.sum(1)])
    weight = at_risk * hazard * (1 - hazard)
    cross = weight.T @ z
    own = z.T @ (weight.sum(1)[:, None] * z)
    return value, gradient, np.block([[np.diag(weight.sum(0)), cross], [cross.T, own]])
