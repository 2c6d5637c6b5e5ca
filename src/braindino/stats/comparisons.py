"""Is model a better than model b? Paired answers on the same subjects; corrections for many tests.

Each test returns a two-sided p. Differences are a minus b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from braindino.stats.intervals import bca_interval, bca_p


@dataclass(frozen=True)
class Difference:
    """Metric of a minus metric of b, with its 95 % interval and a two-sided p."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    a: Float[np.ndarray, " draw"],
    b: Float[np.ndarray, " _"],
    value: float,
    left_out: Float[np.ndarray, " unit"],
    strata: Sequence[Any] | np.ndarray | None = None,
) -> Difference:
    """Difference of two models from metrics on the same draws of subjects, with its BCa interval and the p of 0.

    Args:
        a: metric of one model in each draw.
        b: of the other one, in the same draws.
        value: the difference on the sample itself.
        left_out: the difference without each subject, see `intervals.jackknife`.
        strata: of each subject, where the draws are stratified.

    All NaN where too many draws are undefined.

    Raises:
        ValueError: draws of different numbers.
    """
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} draws of a against {len(b)} of b; both need the same draws of subjects")
    low, high = bca_interval(value, a - b, left_out, strata)
    return Difference(value, low, high, bca_p(value, a - b, left_out, strata))


def delong(
    positive: Bool[np.ndarray, " case"], a: Float[np.ndarray, " case"], b: Float[np.ndarray, " case"]
) -> Difference:
    """DeLong's test of two correlated AUCs (DeLong, DeLong, Clarke-Pearson, Biometrics 1988).

    With V10 (i) the share of negatives below positive i and V01 (j) the share of positives above negative j,
    var(AUC_a - AUC_b) = var(V10_a - V10_b) / m + var(V01_a - V01_b) / n; z is standard normal. Cases must be
    independent: one per subject. Equal AUC placements give p = 1.

    Raises:
        ValueError: fewer than two cases of either class.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong's test needs two cases of each class, got {m} positive and {n} negative")
    ten_a, one_a = _placements(positive, a)
    ten_b, one_b = _placements(positive, b)
    value = float(ten_a.mean() - ten_b.mean())
    error = float(np.sqrt(np.var(ten_a - ten_b, ddof=1) / m + np.var(one_a - one_b, ddof=1) / n))
    if error == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    half = float(stats.norm.ppf(0.975)) * error
    return Difference(value, value - half, value + half, float(2 * stats.norm.sf(abs(value) / error)))


def _placements(
    positive: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """V10 and V01 by midranks (Sun and Xu 2014): rank among all minus rank among one's own."""
    every = stats.rankdata(score)
    m, n = positive.sum(), (~positive).sum()
    above = (every[positive] - stats.rankdata(score[positive])) / n
    below = 1 - (every[~positive] - stats.rankdata(score[~positive])) / m
    return above, below


def mcnemar(a: Bool[np.ndarray, " case"], b: Bool[np.ndarray, " case"]) -> float:
    """Exact McNemar test of two accuracies: of the cases on which just one model is right, is it a coin toss?"""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def wilcoxon(a: Float[np.ndarray, " subject"], b: Float[np.ndarray, " subject"]) -> float:
    """Wilcoxon signed-rank test of per-subject values; subjects without a difference are left out, 1 if all are."""
    difference = (a - b)[a != b]
    return float(stats.wilcoxon(difference).pvalue) if len(difference) else 1.0


def holm(p: Sequence[float] | Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Holm's step-down adjustment: the i-th smallest of m becomes the running maximum of (m - i + 1) p, at most 1.

    NaN (a test that could not be made) stays NaN and is not counted in m.
    """
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    steps = np.arange(len(order), 0, -1) * values[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted


def benjamini_hochberg(p: Sequence[float] | Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Benjamini and Hochberg's step-up adjustment (JRSS B 1995):
    the i-th smallest of m becomes min over j >= i of m p_j / j.

    Rejecting all below 0.05 keeps the expected share of false ones among the rejected at 5 % (tests independent or
    positively dependent), where Holm keeps the chance of any. NaN stays NaN and is not counted in m.
    """
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    made = np.flatnonzero(~np.isnan(values))
    if len(made):
        adjusted[made] = stats.false_discovery_control(values[made], method="bh")
    return adjusted
