"""Days since a stroke, from one T1-weighted scan: learned as ln(1 + days), reported in days."""

from __future__ import annotations

from braindino.tasks import families_of, select, thirds, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w",)


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Regression of `days_since_stroke`; days that are not known are not imputed, those cases are left out."""
    chosen = select(cases, CONTRASTS, ("days_since_stroke",), "days_since_stroke")
    days = {case.subject: float(case.participant["days_since_stroke"]) for case in chosen}
    return Task(
        name="days_since_stroke",
        kind="regression",
        cohort=cohort,
        contrasts=CONTRASTS,
        target=("days_since_stroke",),
        unit="days",
        metric="mae",
        source="BrainDINO post-stroke time (ATLAS 2.0)",
        cases=chosen,
        split=three_way(thirds(days), seed, families_of(chosen)),
        transform="log1p",
    )
