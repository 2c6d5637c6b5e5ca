"""UPENN-GBM: 630 patients with glioblastoma, 671 scans of four contrasts, with survival, IDH and MGMT."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.tables import Row, find_rows, note_unused, row_of, rows_by
from braindino.layouts.tumours import idh, mgmt
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "cancerimagingarchive.net/collection/upenn-gbm (images through Aspera): images_structural/, images_segm/, "
    "automated_segm/ and UPENN-GBM_clinical_info_v2.1.csv in one folder."
)
TERMS = "CC BY 4.0."
EXPECTED = "images_structural/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1.nii.gz (also one folder below)"
_CONTRASTS = {"T1": "T1w", "T1GD": "T1ce", "T2": "T2w", "FLAIR": "FLAIR"}
_NAME = re.compile(r"(UPENN-GBM-\d{5})_(\d{2})")
BASELINE = "11"
"""Session before surgery; 21 is a follow-up of the same patient."""


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every scan with `age`, `sex`, `idh`, `mgmt`, label map and, before surgery only, `survival_days` and `event`.

    Survival runs from surgery in days. Deceased is event 1, Lost to Follow-up event 0 (censored, kept); without a
    status or days it is missing. Hand-corrected label maps go before automated ones. Values are 1, 2, 4.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    folders = [
        p for p in sorted({*root.glob("images_structural/*"), *root.glob("*/images_structural/*")}) if p.is_dir()
    ]
    advice = "UPENN-GBM_clinical_info_v2.1.csv from the collection page"
    rows = find_rows(root, ("UPENN-GBM_clinical_info*",), advice, notes) if folders else []
    table = rows_by(rows, lambda row: row.get("id", ""), "the clinical table", notes)
    _check_censor(table, notes)
    result = []
    for folder in folders:
        match = _NAME.fullmatch(folder.name)
        found = {contrast: folder / f"{folder.name}_{name}.nii.gz" for name, contrast in _CONTRASTS.items()}
        images = {contrast: path for contrast, path in found.items() if path.is_file()}
        if match is None or not images:
            notes.add("left out, no image named like its folder", folder.name)
            continue
        for contrast in found.keys() - images.keys():
            notes.add(f"no {contrast}", folder.name)
        labels = _labels(folder, notes)
        row = row_of(table, folder.name, "the clinical table", notes)
        participant = {
            "group": "glioma",
            "age": row.number("Age_at_scan_years", high=120),
            "sex": row.choice({"m": "M", "male": "M", "f": "F", "female": "F"}, "Gender"),
            "idh": idh(row, "IDH1"),
            "mgmt": mgmt(row, "MGMT"),
            "label_scheme": "brats2021" if labels else "",
            **(_survival(row, notes) if match[2] == BASELINE else {}),
        }
        result.append(
            make_case("upenn_gbm", match[1], images, session=match[2], participant=participant, label_map=labels)
        )
    note_unused(table, (folder.name for folder in folders), "the clinical table", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _labels(folder: Path, notes: Notes) -> Path | None:
    """The corrected label map of a scan, else the automated one (noted), else None (noted)."""
    above = folder.parent.parent
    corrected = above / "images_segm" / f"{folder.name}_segm.nii.gz"
    automated = above / "automated_segm" / f"{folder.name}_automated_approx_segm.nii.gz"
    if corrected.is_file():
        return corrected
    notes.add("automated label map, none corrected by hand" if automated.is_file() else "no label map", folder.name)
    return automated if automated.is_file() else None


def _survival(row: Row, notes: Notes) -> dict[str, Any]:
    """Days and event of a patient; empty where status or days are unknown."""
    codes = {"deceased": "1", "lost to follow-up": "0"}
    event = row.choice(codes, "Survival_Status")
    days = row.number("Survival_from_surgery_days_UPDATED", "Survival_from_surgery_days")
    if row.cells and (not event or days is None):
        notes.add("no survival (status or days not available)", row.name)
        return {}
    return {"survival_days": days, "event": int(event)} if event else {}


def _check_censor(table: dict[str, Row], notes: Notes) -> None:
    """Survival_Censor must be one code for the deceased and another for the lost; rows off that are noted, not changed.

    The event follows Survival_Status, whose words need no code book.
    """
    codes: dict[str, list[str]] = {}
    rows = [(row, row.text("Survival_Status").lower(), row.text("Survival_Censor")) for row in table.values()]
    for _, status, censor in rows:
        if status and censor:
            codes.setdefault(status, []).append(censor)
    usual = {status: max(sorted(set(values)), key=values.count) for status, values in codes.items()}
    for row, status, censor in rows:
        if status and censor and censor != usual[status]:
            notes.add("Survival_Censor contradicts Survival_Status, which is followed", row.name)
    if len(set(usual.values())) < len(usual):
        notes.add("Survival_Censor does not tell the deceased from the lost", "whole table")
