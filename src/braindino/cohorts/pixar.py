"""Pixar: 122 children of 3 to 12 years and 33 adults, one T1w each, with age and sex (OpenNeuro ds000228)."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.bids import EXPECTED, SEXES, bids_sessions, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = "openneuro.org ds000228, version 1.1.1 (a mirror may lag behind): the whole tree with participants.tsv."
TERMS = "CC0."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """One case per subject with `age` in years and `sex`. Ages have two modes: nobody is between 12 and 18.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    found = bids_sessions(root, notes)
    rows = find_rows(root, ("participants",), "participants.tsv of ds000228", notes) if found else []
    table = rows_by(rows, lambda row: row.get("participantid", "").removeprefix("sub-"), "participants.tsv", notes)
    result = []
    for (subject, session), files in found.items():
        row = row_of(table, subject, "participants.tsv", notes)
        participant = {"age": row.number("Age", high=120), "sex": row.choice(SEXES, "Gender", "Sex")}
        result.append(session_case("pixar", subject, session, files, participant))
    note_unused(table, (subject for subject, _ in found), "participants.tsv", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)
