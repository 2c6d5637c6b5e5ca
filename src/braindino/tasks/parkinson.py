"""Parkinson's disease against controls, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)
CLASSES = ("healthy", "parkinson")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `diagnosis`; prodromal people and those without a deficit are left out."""
    return classification(
        "parkinson",
        cohort,
        cases,
        seed,
        column="diagnosis",
        contrasts=CONTRASTS,
        source="BrainDINO Parkinson's disease (cohort not named; here PPMI)",
        classes=CLASSES,
    )
