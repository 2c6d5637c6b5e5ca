"""Intervals by the bootstrap over subjects: scans of one subject are drawn together, never apart.

Resampling slices or scans instead of subjects makes intervals far too narrow, so subject ids are required.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from braindino.stats.metrics import Metric

DRAWS = 2000
LEVEL = 0.95
MAX_UNDEFINED = 0.05
"""Largest share of draws on which a metric may be undefined; above it the interval is NaN."""


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


def interval(
    metric: Metric,
    target: Any,
    output: Any,
    subjects: Sequence[Any] | np.ndarray | None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """A metric with its 95 % percentile interval over subjects (Efron and Tibshirani 1993, chapter 13).

    Classification is stratified by class and survival by event, so that no draw lacks a class or all events.
    """
    counts = bootstrap_counts(subjects, strata=strata_of(metric.kind, target), draws=draws, seed=seed)
    low, high = percentile_interval(metric.function(target, output, counts))
    return Interval(metric.value(target, output), low, high, len(np.unique(check_subjects(subjects))))


def strata_of(kind: str, target: Any) -> np.ndarray | None:
    """What the bootstrap keeps fixed: the class, or whether there was an event; nothing for the other kinds."""
    if kind == "classification":
        return np.asarray(target)
    return np.asarray(target)[:, 1] if kind == "survival" else None
