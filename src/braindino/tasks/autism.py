"""Autism against controls, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)
CLASSES = ("autism", "healthy")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `diagnosis`; other diagnoses are left out."""
    return classification(
        "autism",
        cohort,
        cases,
        seed,
        column="diagnosis",
        contrasts=CONTRASTS,
        source="BrainDINO autism (ABIDE)",
        classes=CLASSES,
    )
