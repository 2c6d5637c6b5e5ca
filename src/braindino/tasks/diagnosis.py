"""Diagnosis: which group a subject belongs to, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1w",)


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of the column `diagnosis`, with all the classes that it holds in this cohort."""
    source = "BrainDINO diagnosis (ABIDE, ADNI, OASIS)"
    return classification("diagnosis", cohort, cases, seed, column="diagnosis", contrasts=CONTRASTS, source=source)
