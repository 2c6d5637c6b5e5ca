"""Survival metrics that weight by the inverse probability of being still observed (IPCW)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from braindino.stats.draws import Draws, Weights, ratio


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
    moments, place = np.unique(time, return_inverse=True)
    belongs = place[:, None] == np.arange(len(moments))
    here = weights @ belongs
    events, censored = weights @ (belongs & event[:, None]), weights @ (belongs & ~event[:, None])
    risk = np.cumsum(here[:, ::-1], axis=1)[:, ::-1] - events
    left = 1 - censored / np.where(risk > 0, risk, 1)
    curve = np.cumprod(np.column_stack([np.ones(len(weights)), left]), axis=1)
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


def brier_at(
    target: Float[np.ndarray, "case 2"],
    survival: Float[np.ndarray, "case moment"],
    at: Float[np.ndarray, " moment"],
    weights: Weights,
) -> Float[np.ndarray, "draw moment"]:
    """Brier score of predicted survival probabilities S at moments t, weighted for censoring (Graf et al. 1999).

    BS(t) = mean over cases of S(t)^2 [T <= t, event] / G(T-) + (1 - S(t))^2 [T > t] / G(t). Range 0 to 1 (but for
    the weights), lower is better; S = 1/2 for everybody gives 1/4 without censoring. NaN where G(t) is 0.
    """
    time, event = target[:, 0], target[:, 1].astype(bool)
    own = observed_share(time, event, weights, time, before=True)
    late = observed_share(time, event, weights, at, before=False)
    died = ((time[:, None] <= at) & event[:, None]) * survival**2
    alive = (time[:, None] > at) * (1 - survival) ** 2
    total = (weights / np.where(own > 0, own, 1)) @ died + ratio(weights @ alive, late)
    return ratio(total, np.broadcast_to(weights.sum(1)[:, None], total.shape))


def integrated_brier(
    target: Float[np.ndarray, "case 2"],
    survival: Float[np.ndarray, "case moment"],
    at: Float[np.ndarray, " _"],
    weights: Weights,
) -> Draws:
    """Mean of `brier_at` over the time from at[0] to at[-1], by the trapezoidal rule.

    Raises:
        ValueError: fewer than two moments, not rising, or past the longest follow-up; or S of another shape.
    """
    if len(at) < 2 or (np.diff(at) <= 0).any() or at[-1] >= target[:, 0].max():
        raise ValueError(
            f"integrated Brier needs two or more rising moments before the longest follow-up "
            f"({target[:, 0].max():g}), got {len(at)} up to {at[-1] if len(at) else float('nan'):g}"
        )
    if survival.shape != (len(target), len(at)):
        raise ValueError(f"survival probabilities of shape {survival.shape} for {len(target)} cases, {len(at)} moments")
    return np.asarray(np.trapezoid(brier_at(target, survival, at, weights), at, axis=1) / (at[-1] - at[0]))
