"""UCSF-PDGM: 501 exams of 495 patients with diffuse glioma before surgery, four contrasts, IDH, MGMT, survival."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.tables import Row, find_rows, note_unused, row_of, rows_by
from braindino.layouts.tumours import idh, mgmt
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "cancerimagingarchive.net/collection/ucsf-pdgm (images through Aspera): the *_nifti folders and "
    "UCSF-PDGM-metadata_v5.csv in one folder."
)
TERMS = "CC BY 4.0."
EXPECTED = "UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1.nii.gz (also one folder below)"
_CONTRASTS = {"T1": "T1w", "T1c": "T1ce", "T2": "T2w", "FLAIR": "FLAIR"}
_NAME = re.compile(r"UCSF-PDGM-(\d{3,4})(?:_(FU\d+d))?")


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every exam with `age`, `sex`, `grade`, `idh`, `mgmt`, `also_in` and, but for follow-ups, survival.

    Folder names have four digits, the table three. Follow-ups (`_FU003d`) are sessions of their patient. OS is in days
    with "1-dead 0-alive" as `event`. `also_in` is `brats2021/<id>` for exams that are in BraTS 2021 too. Label values
    are 1, 2, 4.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    folders = [p for p in sorted({*root.glob("*_nifti"), *root.glob("*/*_nifti")}) if p.is_dir()]
    advice = "UCSF-PDGM-metadata_v5.csv from the collection page"
    rows = find_rows(root, ("UCSF-PDGM-metadata*",), advice, notes) if folders else []
    table = rows_by(rows, _exam, "the metadata table", notes)
    result = []
    for folder in folders:
        name = folder.name.removesuffix("_nifti")
        match = _NAME.fullmatch(name)
        found = {contrast: folder / f"{name}_{suffix}.nii.gz" for suffix, contrast in _CONTRASTS.items()}
        images = {contrast: path for contrast, path in found.items() if path.is_file()}
        if match is None or not images:
            notes.add("left out, no image named like its folder", folder.name)
            continue
        for contrast in found.keys() - images.keys():
            notes.add(f"no {contrast}", name)
        row = row_of(table, name, "the metadata table", notes)
        labels, brain = (folder / f"{name}_{what}_segmentation.nii.gz" for what in ("tumor", "brain"))
        if not labels.is_file():
            notes.add("no label map", name)
        result.append(
            make_case(
                "ucsf_pdgm",
                f"UCSF-PDGM-{match[1]}",
                images,
                session=match[2] or "",
                participant=_participant(row, follow_up=bool(match[2]), labelled=labels.is_file()),
                brain_mask=brain if brain.is_file() else None,
                label_map=labels if labels.is_file() else None,
            )
        )
    note_unused(table, (folder.name.removesuffix("_nifti") for folder in folders), "the metadata table", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _participant(row: Row, *, follow_up: bool, labelled: bool) -> dict[str, Any]:
    days, event = row.number("OS"), row.number("1-dead 0-alive", high=1)
    known = days is not None and event is not None and not follow_up
    if row.cells and not follow_up and not known:
        row.notes.add("no survival (OS or state not available)", row.name)
    other = row.text("BraTS21 ID")
    return {
        "group": "glioma",
        "age": row.number("Age at MRI", high=120),
        "sex": row.choice({"m": "M", "male": "M", "f": "F", "female": "F"}, "Sex"),
        "grade": row.number("WHO CNS Grade", low=1, high=4),
        "idh": idh(row, "IDH"),
        "mgmt": mgmt(row, "MGMT status"),
        "survival_days": days if known else None,
        "event": int(event) if known and event is not None else None,
        "also_in": f"brats2021/{other}" if other else "",
        "label_scheme": "brats2021" if labelled else "",
    }


def _exam(row: Mapping[str, str]) -> str:
    """The folder's name without `_nifti`: the table's id with four digits."""
    match = _NAME.fullmatch(row.get("id", ""))
    return f"UCSF-PDGM-{match[1]:0>4}" + (f"_{match[2]}" if match[2] else "") if match else ""
