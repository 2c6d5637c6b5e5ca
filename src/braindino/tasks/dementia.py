"""Dementia (CDR above 0) against healthy, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)
CLASSES = ("dementia", "healthy")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `diagnosis`; people without a rating are left out, also the young ones."""
    return classification(
        "dementia",
        cohort,
        cases,
        seed,
        column="diagnosis",
        contrasts=CONTRASTS,
        source="BrainDINO dementia (OASIS-1)",
        classes=CLASSES,
    )
