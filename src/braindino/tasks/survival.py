"""Survival: time from surgery to death, censored cases kept, from four contrasts of a tumour."""

from __future__ import annotations

from braindino.tasks import families_of, select, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Time-to-event analysis of `survival_days` and `event` (1 died, 0 censored)."""
    chosen = select(cases, CONTRASTS, ("survival_days", "event"), "survival")
    events = {case.subject: int(float(case.participant["event"])) for case in chosen}
    return Task(
        name="survival",
        kind="survival",
        cohort=cohort,
        contrasts=CONTRASTS,
        target=("survival_days", "event"),
        unit="days",
        metric="concordance_index",
        source="BrainDINO survival, time-to-event (UPENN-GBM)",
        cases=chosen,
        split=three_way(events, seed, families_of(chosen)),
    )
