"""One-year survival with a glioblastoma: death within 365 days of surgery or not, from T1 after contrast agent."""

from __future__ import annotations

from dataclasses import replace

from braindino.progress import note
from braindino.tasks import classification, known
from braindino.types import Case, Task

CONTRASTS = ("T1ce",)
DAYS = 365
CLASSES = ("alive", "dead")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of `one_year`: dead where `event` is 1 within `DAYS`, alive where followed up for longer.

    Whoever was lost to follow-up before `DAYS` is neither and is left out, which is told.
    """
    followed = [c for c in cases if known(c.participant.get("survival_days")) and known(c.participant.get("event"))]
    labelled = [replace(c, participant={**c.participant, "one_year": one_year(c)}) for c in followed]
    if lost := sorted({case.subject for case in labelled if not case.participant["one_year"]}):
        note(f"one_year_survival: lost to follow-up before day {DAYS}, left out: {len(lost)} ({', '.join(lost)})")
    source = "BrainDINO survival, one year (UPENN-GBM)"
    return classification(
        "one_year_survival",
        cohort,
        labelled,
        seed,
        column="one_year",
        contrasts=CONTRASTS,
        source=source,
        classes=CLASSES,
    )


def one_year(case: Case) -> str:
    """`dead`, `alive`, or "" for a case censored before day 365."""
    days, died = float(case.participant["survival_days"]), float(case.participant["event"]) == 1
    if died:
        return "dead" if days <= DAYS else "alive"
    return "alive" if days >= DAYS else ""
