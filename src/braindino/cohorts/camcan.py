"""Cam-CAN: about 650 healthy adults of 18 to 88 years in Cambridge, T1w and T2w, with age and sex."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.bids import EXPECTED, SEXES, bids_sessions, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "camcan-archive.mrc-cbu.cam.ac.uk after application: the BIDS tree (sub-CC*/anat) with participant_data.csv or "
    "participants.tsv."
)
TERMS = "Cam-CAN data agreement; no redistribution."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """One case per subject with `age` in years and `sex`.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    found = bids_sessions(root, notes) or bids_sessions(root / "anat", notes)
    patterns = ("participant_data", "standard_data", "participants")
    rows = find_rows(root, patterns, "participant_data.csv from the archive", notes) if found else []
    table = rows_by(
        rows,
        lambda row: (row.get("participantid") or row.get("ccid") or row.get("observations") or "").removeprefix("sub-"),
        "the participants table",
        notes,
    )
    result = []
    for (subject, session), files in found.items():
        row = row_of(table, subject, "the participants table", notes)
        sex = row.choice(SEXES, "gender_text", "sex", "gender") or row.choice({"1": "M", "2": "F"}, "gender_code")
        participant = {"age": row.number("age", high=120), "sex": sex}
        result.append(session_case("camcan", subject, session, files, participant, "Cambridge"))
    note_unused(table, (subject for subject, _ in found), "the participants table", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)
