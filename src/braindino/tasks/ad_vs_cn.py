"""Alzheimer's disease against healthy ageing, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)
CLASSES = ("healthy", "dementia")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `diagnosis`; visits with mild cognitive impairment are left out."""
    return classification(
        "ad_vs_cn",
        cohort,
        cases,
        seed,
        column="diagnosis",
        contrasts=CONTRASTS,
        source="BrainDINO AD against CN, subject-disjoint (ADNI)",
        classes=CLASSES,
    )
