"""MRI sequence: which of four contrasts a scan is (T1, T1 after contrast agent, T2, FLAIR)."""

from __future__ import annotations

from braindino.tasks import UNKNOWN, classification, scan_by_scan, select
from braindino.types import Case, Task

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Classification of each scan of the sessions that have all four; the split is by subject, not by scan.

    Its cases are those of `encode --each-scan`: one per scan, of which the encoder is not told the contrast.
    """
    scans = scan_by_scan(select(cases, CONTRASTS, (), "sequence"))
    return classification(
        "sequence",
        cohort,
        scans,
        seed,
        column="contrast",
        contrasts=(UNKNOWN,),
        source="BrainDINO MRI sequence (BraTS 2023)",
        classes=CONTRASTS,
    )
