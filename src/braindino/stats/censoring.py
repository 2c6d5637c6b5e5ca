"""Survival metrics that weight by the inverse probability of being still observed (IPCW)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from braindino.stats.draws import Draws, Weights, ratio


@dataclass(frozen=True)
class Curves:
    """Predicted survival curves of cases."""

    at: Float[np.ndarray, " _"]
    """Rising moments, in the unit of the task's times."""
    survival: Float[np.ndarray, "case moment"]
    """Probability of no event up to each moment, 0 to 1; NaN where the case failed."""

    def __post_init__(self) -> None:
        """Refuse moments that do not rise, or another number of them than of probabilities (ValueError)."""
        if (np.diff(self.at) <= 0).any():
            raise ValueError(f"the moments of survival curves must rise, got {self.at.tolist()}")
        if self.survival.shape[1:] != self.at.shape:
            raise ValueError(f"survival probabilities of shape {self.survival.shape} for {len(self.at)} moments")

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.survival)

    def __getitem__(self, where: np.ndarray) -> Curves:
        """The curves of some of the cases."""
        return Curves(self.at, self.survival[where])

    def until(self, time: Float[np.ndarray, " case"], least: int) -> Curves:
        """The moments alone that at least `least` of these times outlive."""
        early = (time[:, None] > self.at).sum(0) >= least
        return Curves(self.at[early], self.survival[:, early])


def observed_share(
    time: Float[np.ndarray, " case"],
    event: Bool[np.ndarray, " case"],
    weights: Weights,
    at: Float[np.ndarray, " moment"],
    *,
    before: bool,
) -> Float[np.ndarray, "draw moment"]:
    """G(t) = P(censoring time > t), the Kaplan-Meier estimate of the censoring, in each draw; `before`: G(t-).

    G(t) = prod over censoring times u <= t of (1 - censored(u) / (at risk(u) - events(u))): at equal times events
    come before censorings. `before` takes the product over u < t.
    """
    return _product_limit(time, ~event, event, weights, at, before=before)


def surviving_share(
    time: Float[np.ndarray, " case"],
    event: Bool[np.ndarray, " case"],
    weights: Weights,
    at: Float[np.ndarray, " moment"],
) -> Float[np.ndarray, "draw moment"]:
    """S(t) = P(event time > t), the Kaplan-Meier estimate, in each draw: as `observed_share`, of the events."""
    return _product_limit(time, event, np.zeros(len(time), bool), weights, at, before=False)


def _product_limit(
    time: np.ndarray, leaves: np.ndarray, first: np.ndarray, weights: Weights, at: np.ndarray, *, before: bool
) -> Float[np.ndarray, "draw moment"]:
    """Share that has not left at each moment; of equal times those of `first` are gone before the others leave."""
    moments, place = np.unique(time, return_inverse=True)
    belongs = place[:, None] == np.arange(len(moments))
    whose, counts = (np.ones(len(time)), first, leaves), weights.astype(float)  # floats multiply many times faster
    here, gone, left = (counts @ (belongs * who[:, None]).astype(float) for who in whose)
    risk = np.cumsum(here[:, ::-1], axis=1)[:, ::-1] - gone
    kept = 1 - left / np.where(risk > 0, risk, 1)
    curve = np.cumprod(np.column_stack([np.ones(len(weights)), kept]), axis=1)
    return np.asarray(curve[:, np.searchsorted(moments, at, side="left" if before else "right")])


def concordance_ipcw(
    target: Float[np.ndarray, "case 2"], output: Float[np.ndarray, " case"], weights: Weights
) -> Draws:
    """Uno's C: Harrell's share of rightly ordered pairs, each weighted by 1 / G(t-)^2 of the earlier event time t.

    It estimates P(risk_i > risk_j | T_i < T_j), which Harrell's C does only without censoring. G is estimated on the
    same cases, and no pair is cut off at a late time (tau is the longest follow-up), so few late events can weigh
    much. Pairs and ties as in `metrics.concordance_index`. Range 0 to 1, NaN without a comparable pair (Uno et al.,
    Statistics in Medicine 2011).
    """
    time, event = target[:, 0], target[:, 1].astype(bool)
    later = (time[:, None] < time[None]) | ((time[:, None] == time[None]) & ~event[None])
    comparable = (event[:, None] & later).astype(float)
    right = (output[:, None] > output[None]) + 0.5 * (output[:, None] == output[None])
    counts = weights.astype(float)
    share = observed_share(time, event, weights, time, before=True)
    earlier = counts / np.where(share > 0, share, 1) ** 2  # share is 0 only for cases that count 0 times
    won = np.einsum("dc,dc->d", earlier @ (comparable * right), counts)
    return ratio(won, np.einsum("dc,dc->d", earlier @ comparable, counts))


def brier_at(target: Float[np.ndarray, "case 2"], curves: Curves, weights: Weights) -> Float[np.ndarray, "draw moment"]:
    """Brier score of predicted survival probabilities S at moments t, weighted for censoring (Graf et al. 1999).

    BS(t) = mean over cases of S(t)^2 [T <= t, event] / G(T-) + (1 - S(t))^2 [T > t] / G(t). Range 0 to 1 (but for
    the weights), lower is better; S = 1/2 for everybody gives 1/4 without censoring. NaN where G(t) is 0.
    """
    own, late = _shares(target, curves.at, weights)
    died, alive = _outcomes(target, curves.at)
    total = own @ (died * curves.survival**2) + ratio(weights @ (alive * (1 - curves.survival) ** 2), late)
    return ratio(total, np.broadcast_to(weights.sum(1)[:, None], total.shape))


def _shares(target: np.ndarray, at: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """(draw, case): weight / G(T-) of each case; and (draw, moment): G(t)."""
    time, event = target[:, 0], target[:, 1].astype(bool)
    own = observed_share(time, event, weights, time, before=True)
    return weights / np.where(own > 0, own, 1), observed_share(time, event, weights, at, before=False)


def _outcomes(target: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(case, moment): is the case known to have had the event up to the moment; is it past the moment?"""
    time, event = target[:, :1], target[:, 1:].astype(bool)
    return (time <= at) & event, time > at


def _kaplan_meier_brier(target: np.ndarray, at: np.ndarray, weights: Weights) -> Float[np.ndarray, "draw moment"]:
    """`brier_at` of the Kaplan-Meier curve of the same cases for everybody, in each draw its own curve."""
    share = surviving_share(target[:, 0], target[:, 1].astype(bool), weights, at)
    own, late = _shares(target, at, weights)
    died, alive = _outcomes(target, at)
    total = share**2 * (own @ died) + (1 - share) ** 2 * ratio(weights @ alive, late)
    return ratio(total, np.broadcast_to(weights.sum(1)[:, None], total.shape))


def _over_time(values: Float[np.ndarray, "draw moment"], at: Float[np.ndarray, " moment"]) -> Draws:
    if len(at) < 2:
        return np.full(len(values), np.nan)
    return np.asarray(np.trapezoid(values, at, axis=1) / (at[-1] - at[0]))


def integrated_brier(target: Float[np.ndarray, "case 2"], output: Curves, weights: Weights) -> Draws:
    """Mean of `brier_at` over the time from the first to the last moment, by the trapezoidal rule. Lower is better.

    Range and weights as there. NaN with fewer than two moments, or where nobody is observed beyond the last one.
    """
    return _over_time(brier_at(target, output, weights), output.at)


def brier_skill(target: Float[np.ndarray, "case 2"], output: Curves, weights: Weights) -> Draws:
    """1 - integrated Brier score / that of the Kaplan-Meier curve of these very cases on the same moments.

    At most 1; 0 for that curve, which knows nobody apart; below 0 is worse than it (Kattan and Gerds 2018, who call it
    the index of prediction accuracy). NaN as `integrated_brier`.
    """
    reference = _over_time(_kaplan_meier_brier(target, output.at, weights), output.at)
    return 1 - ratio(integrated_brier(target, output, weights), reference)
