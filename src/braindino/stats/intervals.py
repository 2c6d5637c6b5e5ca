"""Intervals by the bootstrap over subjects: scans of one subject are drawn together, never apart.

Resampling slices or scans instead of subjects makes intervals far too narrow, so subject ids are required.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from braindino.stats.metrics import Method, Metric

DRAWS = 2000
LEVEL = 0.95
MAX_UNDEFINED = 0.05
"""Largest share of draws on which a metric may be undefined; above it the interval is NaN."""
MAX_WEIGHTS = 4_000_000
"""Weights held at once by the jackknife."""


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float
    subjects: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], {self.subjects} subjects"


def check_subjects(subjects: Sequence[Any] | np.ndarray | None) -> np.ndarray:
    """Subject ids as an array of strings.

    Raises:
        ValueError: there are none, or one of them is missing or empty.
    """
    if subjects is None or len(subjects) == 0:
        raise ValueError("subject ids are required: cases of one subject are resampled together; none were given")
    missing = pd.isna(np.asarray(subjects, object)) | (np.asarray(subjects, object) == "")
    if missing.any():
        raise ValueError(f"{int(missing.sum())} of {len(subjects)} cases have no subject id; every case needs one")
    return np.asarray([str(subject) for subject in subjects])


def bootstrap_counts(
    subjects: Sequence[Any] | np.ndarray | None,
    *,
    strata: Sequence[Any] | np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Int[np.ndarray, "draw case"]:
    """How often each case counts in each draw of as many subjects as there are, with replacement.

    Args:
        subjects: subject of each case; a subject's cases always have the same count.
        strata: class (or event) of each case; subjects are drawn within the stratum of their first case, so
            every draw holds as many subjects of each class as the sample.
        draws: number of draws, at least 1; published intervals take 2000 or more.
        seed: of the random numbers.

    Raises:
        ValueError: no or missing subject ids, or strata of another length.
    """
    ids, first, inverse = np.unique(check_subjects(subjects), return_index=True, return_inverse=True)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    stratum = np.zeros(len(ids), int)
    if strata is not None:
        if len(strata) != len(inverse):
            raise ValueError(f"{len(strata)} strata for {len(inverse)} cases; give one per case")
        stratum = np.unique(np.asarray(strata)[first], return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    counts = np.zeros((draws, len(ids)), np.int64)
    for level in np.unique(stratum):
        members = np.flatnonzero(stratum == level)
        counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return counts[:, inverse]


def percentile_interval(values: Float[np.ndarray, " draw"], level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval: the (1 - level) / 2 and (1 + level) / 2 quantiles of the draws.

    Undefined (NaN) draws are left out; where they are more than `MAX_UNDEFINED` both ends are NaN.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < (1 - MAX_UNDEFINED) * len(values) or len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca_interval(
    value: float,
    drawn: Float[np.ndarray, " draw"],
    left_out: Float[np.ndarray, " unit"],
    strata: Sequence[Any] | np.ndarray | None = None,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987; DiCiccio and Efron, Statistical Science 1996).

    The quantiles of the draws at Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = -+ t sqrt(n / (n - H)), t the quantile of
    Student's distribution with n - H degrees of freedom instead of the normal one (n units in H strata): a bootstrap
    distribution is narrower than that of samples by this factor (Hesterberg, American Statistician 2015).
    z0 = Phi^-1(share of draws below `value`, ties half), and the acceleration from the jackknife,
    a = sum U_hi^3 / n_h^3 / (6 (sum U_hi^2 / n_h^2)^(3/2)), U_hi = (n_h - 1) (mean_h - left_out_hi), sums over
    the n_h units of each stratum h. Where nothing varies both ends are `value`.

    Args:
        value: the metric on the sample.
        drawn: the metric in each draw.
        left_out: the metric without each unit, see `jackknife`.
        strata: of each unit, where the draws are stratified.
        level: of the interval.

    Both ends are NaN where the value, a jackknifed value or more than `MAX_UNDEFINED` of the draws are undefined.
    """
    shape = _bca_shape(value, drawn, left_out, strata)
    if shape is None:
        return float("nan"), float("nan")
    z0, a, widening, freedom = shape
    z = z0 + widening * float(stats.t.ppf((1 + level) / 2, freedom)) * np.array([-1.0, 1.0])
    low, high = np.quantile(drawn[~np.isnan(drawn)], stats.norm.cdf(z0 + z / (1 - a * z)))
    return float(low), float(high)


def bca_p(
    value: float,
    drawn: Float[np.ndarray, " draw"],
    left_out: Float[np.ndarray, " unit"],
    strata: Sequence[Any] | np.ndarray | None = None,
) -> float:
    """Two-sided p of "the truth is 0": 1 - level of the `bca_interval` that ends at 0.

    With w = Phi^-1(share of draws below 0, ties half) and u = (w - z0) / (1 + a (w - z0)), p = 2 P(t > |u - z0| /
    sqrt(n / (n - H))). It is never 0, since finitely many draws cannot show that. NaN as the interval.
    """
    shape = _bca_shape(value, drawn, left_out, strata)
    if shape is None:
        return float("nan")
    z0, a, widening, freedom = shape
    beyond = _normal_share(drawn[~np.isnan(drawn)], 0.0, max(1.0, abs(value))) - z0
    z = beyond / (1 + a * beyond) - z0 if 1 + a * beyond > 0 else np.inf
    return float(2 * stats.t.sf(abs(z) / widening, freedom))


def _bca_shape(
    value: float, drawn: np.ndarray, left_out: np.ndarray, strata: Sequence[Any] | np.ndarray | None
) -> tuple[float, float, float, int] | None:
    """z0, a, sqrt(n / (n - H)) and n - H of `bca_interval`; None where one is undefined."""
    groups = np.zeros(len(left_out)) if strata is None else np.asarray(strata)
    freedom = len(left_out) - len(np.unique(groups))
    if np.isnan([value, percentile_interval(drawn)[0]]).any() or np.isnan(left_out).any() or freedom < 1:
        return None
    square = cube = 0.0
    for group in np.unique(groups):
        own = left_out[groups == group]
        influence = (len(own) - 1) * (own.mean() - own) / len(own)
        square, cube = square + float(np.sum(influence**2)), cube + float(np.sum(influence**3))
    z0 = _normal_share(drawn[~np.isnan(drawn)], value, max(1.0, abs(value)))
    return z0, cube / (6 * square**1.5) if square > 0 else 0.0, float(np.sqrt(len(left_out) / freedom)), freedom


def _normal_share(drawn: Float[np.ndarray, " draw"], at: float, scale: float) -> float:
    """Phi^-1 of the share of draws below `at`, equal ones (but for rounding) half; finite."""
    equal = np.abs(drawn - at) <= 1e-12 * scale
    share = float(np.mean((drawn < at) & ~equal) + np.mean(equal) / 2)
    least = 1 / (2 * len(drawn))
    return float(stats.norm.ppf(np.clip(share, least, 1 - least)))


def jackknife(
    function: Callable[[Any], Any], subjects: Sequence[Any] | np.ndarray | None
) -> tuple[Float[np.ndarray, " unit"], Int[np.ndarray, " unit"]]:
    """A metric without each subject in turn, in order of the subjects' first cases; and the index of that case.

    Args:
        function: weights (draw, case) to the metric (draw,).
        subjects: subject of each case.
    """
    _, first, inverse = np.unique(check_subjects(subjects), return_index=True, return_inverse=True)
    block = max(1, MAX_WEIGHTS // len(inverse))
    parts = [np.arange(start, min(start + block, len(first))) for start in range(0, len(first), block)]
    return np.concatenate([function((inverse != part[:, None]).astype(np.int64)) for part in parts]), first


def interval(
    metric: Metric,
    target: Any,
    output: Any,
    subjects: Sequence[Any] | np.ndarray | None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """A metric with its 95 % interval over subjects, by the method that the metric names.

    Classification is stratified by class and survival by event, so that no draw lacks a class or all events.
    """
    strata = strata_of(metric.kind, target)
    counts = bootstrap_counts(subjects, strata=strata, draws=draws, seed=seed)
    value, drawn = metric.value(target, output), metric.function(target, output, counts)
    low, high = ends(metric.interval, value, drawn, lambda w: metric.function(target, output, w), subjects, strata)
    return Interval(value, low, high, len(np.unique(check_subjects(subjects))))


def ends(
    method: Method,
    value: float,
    drawn: Float[np.ndarray, " draw"],
    function: Callable[[Any], Any],
    subjects: Sequence[Any] | np.ndarray | None,
    strata: Sequence[Any] | np.ndarray | None,
) -> tuple[float, float]:
    """Both ends of the 95 % interval by a method; NaN for `none`."""
    if method == "none":
        return float("nan"), float("nan")
    if method == "percentile":
        return percentile_interval(drawn)
    left_out, first = jackknife(function, subjects)
    return bca_interval(value, drawn, left_out, None if strata is None else np.asarray(strata)[first])


def strata_of(kind: str, target: Any) -> np.ndarray | None:
    """What the bootstrap keeps fixed: the class, or whether there was an event; nothing for the other kinds."""
    if kind == "classification":
        return np.asarray(target)
    return np.asarray(target)[:, 1] if kind == "survival" else None
