"""Survival curves and the test between two of them, by lifelines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class KaplanMeier:
    """The product-limit estimate of P(T > t), a step function that begins with 1 at time 0."""

    time: Float[np.ndarray, " step"]
    survival: Float[np.ndarray, " step"]
    low: Float[np.ndarray, " step"]
    high: Float[np.ndarray, " step"]
    at_risk: Float[np.ndarray, " step"]
    """Subjects still at risk just before each time."""
    median: float
    """First time at which survival is at most 1/2; infinite where it never is."""
    median_low: float
    """The same of the lower band: the 95 % interval of the median (Brookmeyer and Crowley, Biometrics 1982)."""
    median_high: float
    """The same of the upper band."""


@dataclass(frozen=True)
class LogRank:
    """Two-group log-rank test."""

    statistic: float
    p: float
    low_subjects: int
    high_subjects: int
    high: Bool[np.ndarray, " subject"]
    """Who is in the high-risk group."""


def kaplan_meier(time: Float[np.ndarray, " subject"], event: Bool[np.ndarray, " subject"]) -> KaplanMeier:
    """Kaplan-Meier curve S(t) = prod over event times u <= t of (1 - events(u) / at risk(u)).

    The 95 % band is Greenwood's on the log(-log S) scale.

    Raises:
        ValueError: no subject, or a time that is negative or not finite.
    """
    from lifelines import KaplanMeierFitter

    check_times(time)
    curve = KaplanMeierFitter().fit(time, event)
    band = curve.confidence_interval_.to_numpy(float)
    return KaplanMeier(
        time=curve.timeline.astype(float),
        survival=curve.survival_function_.to_numpy(float)[:, 0],
        low=band[:, 0],
        high=band[:, 1],
        at_risk=curve.event_table["at_risk"].to_numpy(float),
        median=float(curve.median_survival_time_),
        median_low=_first_half(curve.timeline.astype(float), band[:, 0]),
        median_high=_first_half(curve.timeline.astype(float), band[:, 1]),
    )


def _first_half(time: Float[np.ndarray, " step"], share: Float[np.ndarray, " step"]) -> float:
    """First time at which a curve is at most 1/2; infinite where it never is."""
    reached = np.flatnonzero(share <= 0.5)
    return float(time[reached[0]]) if len(reached) else float("inf")


def log_rank(
    time: Float[np.ndarray, " subject"],
    event: Bool[np.ndarray, " subject"],
    risk: Float[np.ndarray, " subject"],
    threshold: float,
) -> LogRank:
    """Log-rank test between low risk and high risk (risk >= threshold).

    `threshold` must be fixed before testing: the median risk of the training subjects, which the Cox head puts
    at 0. A threshold from the test subjects themselves would make p too small.

    Raises:
        ValueError: one of the groups is empty, or a time that is negative or not finite.
    """
    from lifelines.statistics import logrank_test

    check_times(time)
    high = np.asarray(risk >= threshold)
    if high.all() or not high.any():
        raise ValueError(f"all {len(risk)} subjects are on one side of the risk threshold {threshold:g}; no test")
    test = logrank_test(time[high], time[~high], event[high], event[~high])
    return LogRank(float(test.test_statistic), float(test.p_value), int((~high).sum()), int(high.sum()), high)


def check_times(time: Float[np.ndarray, " subject"]) -> None:
    """Follow-up times must be there, finite and not negative."""
    if len(time) == 0 or not np.isfinite(time).all() or time.min() < 0:
        raise ValueError("follow-up times must be finite and not negative, and there must be at least one")
