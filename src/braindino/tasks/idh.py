"""IDH status of a glioma (wild type or mutant), from T1 after contrast agent and FLAIR."""

from __future__ import annotations

from braindino.tasks import classification
from braindino.types import Case, Task

CONTRASTS = ("T1ce", "FLAIR")
CLASSES = ("mutant", "wildtype")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `idh`; unknown or indeterminate status is left out."""
    return classification(
        "idh",
        cohort,
        cases,
        seed,
        column="idh",
        contrasts=CONTRASTS,
        source="BrainDINO IDH mutation (UCSF-PDGM)",
        classes=CLASSES,
    )
