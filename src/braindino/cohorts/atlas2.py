"""ATLAS 2.0: stroke, 655 people with lesion masks and 300 without, T1w in MNI space, with days since stroke."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import bids_sessions, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by, squeeze
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "fcon_1000.projects.nitrc.org/indi/retro/atlas.html: the decrypted ATLAS_2 folder (the password comes by mail) "
    "with 20220425_ATLAS_2.0_MetaData.xlsx (or its CSV export)."
)
TERMS = "ATLAS data use agreement; no redistribution."
EXPECTED = "Training/R001/sub-r001s001/ses-1/anat/..._T1w.nii.gz (also Testing/)"
_SUBJECT = tuple(squeeze(name) for name in ("Subject ID", "BIDS ID", "participant_id", "ATLAS ID", "ID", "Session"))


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with its lesion mask as label map (label_scheme lesion) and `days_since_stroke`.

    Days that the sheet does not give as a number (missing, or "180" in CHRONICITY for chronic) stay missing: time is
    never imputed. The distribution has a heavy right tail; use log days.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    sites = [p for p in sorted({*root.glob("*"), *root.glob("*/*"), *root.glob("*/*/*")}) if p.is_dir()]
    found = {
        (subject, session): (site.name, files)
        for site in sites
        if re.fullmatch(r"R\d{3}", site.name)
        for (subject, session), files in bids_sessions(site, notes).items()
    }
    rows = find_rows(root, ("*ATLAS*MetaData*",), "the sheet of the download", notes) if found else []
    table = rows_by(rows, _subject, "the ATLAS sheet", notes)
    result = []
    for (subject, session), (site, files) in sorted(found.items()):
        row = row_of(table, subject, "the ATLAS sheet", notes)
        days = row.number("DAYS_POST_STROKE", "Days Post Stroke", "Days since stroke")
        if row.cells and days is None:
            notes.add("no days since stroke", subject)
        if files.label_map is None:
            notes.add("no lesion mask (as in the test set)", subject)
        participant = {
            "group": "stroke",
            "days_since_stroke": days,
            "label_scheme": "lesion" if files.label_map else "",
        }
        result.append(session_case("atlas2", subject, session, files, participant, site))
    note_unused(table, (subject for subject, _ in found), "the ATLAS sheet", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _subject(row: Mapping[str, str]) -> str:
    """`r001s001` from whichever column names the subject."""
    for column in _SUBJECT:
        if match := re.search(r"r\d{3}s\d{3}", row.get(column, "").lower()):
            return match[0]
    return ""
