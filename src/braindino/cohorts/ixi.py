"""IXI: 581 healthy adults in London, T1w, T2w and PDw, three hospitals (HH at 3 T), with age and sex."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.cases import Notes, Tell, first_of, make_case, ordered
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by, to_number
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "brain-development.org/ixi-dataset: IXI-T1.tar (and IXI-T2.tar, IXI-PD.tar) and the sheet IXI.xls; unpack all "
    "below one folder."
)
TERMS = "CC BY-SA 3.0."
_NAME = re.compile(r"(IXI\d{3})-(Guys|HH|IOP)-(\d+)-(T1|T2|PD)\.nii(\.gz)?")
_CONTRASTS = {"T1": "T1w", "T2": "T2w", "PD": "PDw"}
EXPECTED = "IXI002-Guys-0828-T1.nii.gz in it or in folders like IXI-T1/"


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """One case per subject with `age` in years and `sex` from IXI.xls, joined on IXI_ID (never on the row number).

    The three contrasts of a subject lie on different grids. Told: subjects without a row or without an age, rows
    without a scan, doubled rows, cells on which doubled rows disagree, further scans of a contrast.

    Raises:
        ValueError: no folder or no image named like those of IXI.
    """
    root, notes = Path(root), Notes()
    images: dict[str, dict[str, list[Path]]] = {}
    for path in sorted([*root.glob("*.nii*"), *root.glob("*/*.nii*")]):
        if match := _NAME.fullmatch(path.name):
            images.setdefault(match[1], {}).setdefault(_CONTRASTS[match[4]], []).append(path)
        else:
            notes.add("left out, not a T1, T2 or PD image of IXI by its name", path.name)
    advice = "IXI.xls from brain-development.org/ixi-dataset"
    table = rows_by(find_rows(root, ("IXI*",), advice, notes), _subject, "IXI.xls", notes) if root.is_dir() else {}
    result = []
    for subject, contrasts in images.items():
        chosen = {name: first_of(paths, f"{name} of {subject}", notes) for name, paths in contrasts.items()}
        row = row_of(table, subject, "IXI.xls", notes)
        participant = {"age": row.number("AGE", high=120), "sex": row.choice({"1": "M", "2": "F"}, "SEX_ID (1=m, 2=f)")}
        if row.cells and participant["age"] is None:
            notes.add("no age in IXI.xls", subject)
        site = next(iter(chosen.values())).name.split("-")[1]
        result.append(make_case("ixi", subject, chosen, site=site, participant=participant))
    note_unused(table, images, "IXI.xls", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _subject(row: Mapping[str, str]) -> str:
    number = to_number(row.get("ixiid", "").upper().removeprefix("IXI"))
    return "" if number is None else f"IXI{number:03.0f}"
