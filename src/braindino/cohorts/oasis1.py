"""OASIS-1: 416 people of 18 to 96 years, of whom 20 came twice, T1w, with clinical dementia rating."""

from __future__ import annotations

import re
from pathlib import Path

from braindino.layouts.cases import Notes, Tell, first_of, make_case, ordered
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "oasis-brains.org, OASIS-1 cross-sectional: disc1 to disc12 and the sheet oasis_cross-sectional (.csv or .xlsx) "
    "in one folder."
)
TERMS = "OASIS Data Use Agreement."
EXPECTED = "folders like disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/"
_IMAGES = (
    "PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc",
    "PROCESSED/MPRAGE/SUBJ_111/*_sbj_111",
    "RAW/*_mpr-*_anon",
)
"""Which image of a session is read: without skull and bias field, else the average, else the first acquisition."""
_ENDINGS = (".hdr", ".nii.gz", ".nii")


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session (MR1, and MR2 of the same subject) with `age`, `sex`, `cdr` and `diagnosis`.

    CDR 0 is healthy, above 0 dementia; an empty CDR (young people, second visits) is missing, not 0. Images are
    Analyze pairs: the path is that of the header.

    Raises:
        ValueError: no folder or no session folder in it.
    """
    root, notes = Path(root), Notes()
    folders = [p for p in [*root.glob("OAS1_*"), *root.glob("*/OAS1_*")] if re.fullmatch(r"OAS1_\d{4}_MR\d", p.name)]
    rows = find_rows(root, ("oasis_cross-sectional*",), "the sheet from oasis-brains.org", notes) if folders else []
    table = rows_by(rows, lambda row: row.get("id", ""), "oasis_cross-sectional", notes)
    result: dict[str, Case] = {}
    for folder in sorted(folders, key=lambda path: (path.name, str(path))):
        image = _image(folder, notes)
        if image is None or folder.name in result:
            reason = "no image in its folder" if image is None else "a folder of this name was read before"
            notes.add(f"left out, {reason}", str(folder.relative_to(root)))
            continue
        row = row_of(table, folder.name, "oasis_cross-sectional", notes)
        cdr = row.number("CDR", high=3)
        participant = {
            "age": row.number("Age", high=120),
            "sex": row.choice({"m": "M", "f": "F"}, "M/F"),
            "cdr": cdr,
            "diagnosis": None if cdr is None else "dementia" if cdr > 0 else "healthy",
        }
        subject, _, session = folder.name.rpartition("_")
        result[folder.name] = make_case("oasis1", subject, {"T1w": image}, session=session, participant=participant)
    note_unused(table, result, "oasis_cross-sectional", notes)
    notes.tell(tell)
    return ordered(list(result.values()), root, EXPECTED)


def _image(folder: Path, notes: Notes) -> Path | None:
    for pattern in _IMAGES:
        for ending in _ENDINGS:
            if found := sorted(folder.glob(pattern + ending)):
                return found[0] if pattern.startswith("RAW") else first_of(found, f"T1w of {folder.name}", notes)
    return None
