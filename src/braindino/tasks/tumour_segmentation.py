"""Tumour segmentation: whole tumour, tumour core, enhancing tumour (BraTS 2023 labels) from four contrasts."""

from __future__ import annotations

from braindino.tasks import select, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")
REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
"""Region to the labels of BraTS 2023 that it unites: 1 necrotic core, 2 oedema, 3 enhancing tumour."""


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Dense prediction of the three nested regions; cases without a label map are left out."""
    labelled = [case for case in cases if any(scan.label_map for scan in case.scans)]
    tumours = [case for case in labelled if case.participant.get("group", "glioma") == "glioma"]
    chosen = select(tumours, CONTRASTS, (), "tumour_segmentation")
    return Task(
        name="tumour_segmentation",
        kind="segmentation",
        cohort=cohort,
        contrasts=CONTRASTS,
        target=(),
        unit="Dice",
        metric="dice",
        source="BrainDINO tumour segmentation (BraTS 2021, 2023, 2024)",
        cases=chosen,
        split=three_way({case.subject: "all" for case in chosen}, seed),
        regions=REGIONS,
    )
