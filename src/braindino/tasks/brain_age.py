"""Brain age: the age of subjects without disease, in years, from one T1-weighted scan."""

from __future__ import annotations

from braindino.tasks import families_of, known, select, thirds, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w",)


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Regression of `age`. Cases with a diagnosis other than "healthy" are left out where `diagnosis` is known."""
    healthy = [c for c in cases if not known(c.participant.get("diagnosis")) or c.participant["diagnosis"] == "healthy"]
    healthy = [c for c in healthy if c.participant.get("group", "healthy") == "healthy"]
    chosen = select(healthy, CONTRASTS, ("age",), "brain_age")
    ages = {case.subject: float(case.participant["age"]) for case in chosen}
    return Task(
        name="brain_age",
        kind="regression",
        cohort=cohort,
        contrasts=CONTRASTS,
        target=("age",),
        unit="years",
        metric="mae",
        source="BrainDINO brain age (IXI + LONG579 + Pixar)",
        cases=chosen,
        split=three_way(thirds(ages), seed, families_of(chosen)),
    )
