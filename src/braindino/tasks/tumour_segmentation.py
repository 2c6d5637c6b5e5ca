"""Tumour segmentation: whole tumour, tumour core, enhancing tumour from four contrasts (BraTS label schemes)."""

from __future__ import annotations

from braindino.layouts.labels import SCHEMES
from braindino.tasks import families_of, select, three_way
from braindino.types import Case, Task

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")
GROUPS = ("glioma", "metastasis", "meningioma", "tumour")
"""Values of the column `group` that have a tumour."""
DEFAULT_SCHEME = "brats2023"
"""Where there is no column `label_scheme`: 1 necrotic core, 2 oedema, 3 enhancing tumour."""


def build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task:
    """Dense prediction of the three nested regions; cases without a label map are left out.

    Raises:
        ValueError: as `select`; label maps of several schemes, or of one without these regions.
    """
    labelled = [case for case in cases if any(scan.label_map for scan in case.scans)]
    tumours = [case for case in labelled if case.participant.get("group", "glioma") in GROUPS]
    chosen = select(tumours, CONTRASTS, (), "tumour_segmentation")
    scheme, *others = sorted({str(case.participant.get("label_scheme", DEFAULT_SCHEME)) for case in chosen})
    if others or scheme not in SCHEMES or "ET" not in SCHEMES[scheme].regions:
        told, known = " and ".join([scheme, *others]), ", ".join(n for n, s in SCHEMES.items() if "ET" in s.regions)
        raise ValueError(f"task tumour_segmentation: label_scheme is {told}, expected one of {known}")
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
        split=three_way({case.subject: "all" for case in chosen}, seed, families_of(chosen)),
        regions=SCHEMES[scheme].regions,
    )
