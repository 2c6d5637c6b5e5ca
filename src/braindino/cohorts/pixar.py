"""Pixar: 122 children of 3 to 12 years and 33 adults, one T1w each, with age and sex (OpenNeuro ds000228)."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.bids import EXPECTED, SEXES, bids_sessions, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.tables import Row, find_rows, rows_by
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
        row = table.get(subject, Row(subject, {}, notes))
        if table and not row.cells:
            notes.add("no row in participants.tsv", f"sub-{subject}")
        participant = {"age": row.number("Age", high=120), "sex": row.choice(SEXES, "Gender", "Sex")}
        result.append(session_case("pixar", subject, session, files, participant))
    notes.tell(tell)
    return ordered(result, root, EXPECTED)
