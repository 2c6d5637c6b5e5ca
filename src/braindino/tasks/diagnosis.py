"""Diagnosis: which group a subject belongs to, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import families_of, select, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w",)


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of the column `diagnosis`, with all the classes that it holds in this cohort."""
    chosen = select(cases, CONTRASTS, ("diagnosis",), "diagnosis")
    labels = {case.subject: str(case.participant["diagnosis"]) for case in chosen}
    return Task(
        name="diagnosis",
        kind="classification",
        cohort=cohort,
        contrasts=CONTRASTS,
        target=("diagnosis",),
        unit="class",
        metric="roc_auc",
        source="BrainDINO diagnosis (ABIDE, ADNI, OASIS)",
        cases=chosen,
        split=three_way(labels, seed, families_of(chosen)),
        classes=tuple(sorted(set(labels.values()))),
    )
