"""Alzheimer's disease, three ways: healthy, mild cognitive impairment or dementia, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)
CLASSES = ("healthy", "mci", "dementia")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `diagnosis` (CN, MCI, AD); a subject may have visits of several classes, in one split."""
    return classification(
        "alzheimer",
        cohort,
        cases,
        seed,
        column="diagnosis",
        contrasts=CONTRASTS,
        source="BrainDINO Alzheimer's disease, CN / MCI / AD (ADNI)",
        classes=CLASSES,
    )
