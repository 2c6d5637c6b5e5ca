"""LONG579: 322 children scanned at about 5, 7 and 9 years, up to three sessions each, T1w (OpenNeuro ds003604)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import EXPECTED, SEXES, bids_sessions, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.loni import to_date, years_between
from braindino.layouts.tables import Row, find_rows, missing, note_unused, read_sheet, row_of, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = "openneuro.org ds003604: the whole tree with participants.tsv (and sessions.tsv or scans.tsv files)."
TERMS = "CC0."
PLAUSIBLE_YEARS = (4.0, 12.0)
"""Ages outside this range are noted and not used."""


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with the true `age` at the scan and `sex`; the sessions of a child share its subject.

    The session's name (5, 7, 9) is a nominal age that can be 1.5 years off and is never used. The age is taken from
    `sub-<id>_sessions.tsv` (age), else from a column of participants.tsv with the session's name and "age" in it
    (months where it says so), else from a birth date there and the scan's date in sessions.tsv or scans.tsv. Where
    none of these is at hand, age is missing and told.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    found = bids_sessions(root, notes)
    rows = find_rows(root, ("participants",), "participants.tsv of ds003604", notes) if found else []
    table = rows_by(rows, lambda row: row.get("participantid", "").removeprefix("sub-"), "participants.tsv", notes)
    result = []
    for (subject, session), files in found.items():
        row = row_of(table, subject, "participants.tsv", notes)
        age = _age(root / f"sub-{subject}", row, session, notes)
        if age is None:
            notes.add("no age at the scan", f"sub-{subject}_ses-{session}")
        participant = {"age": age, "sex": row.choice(SEXES, "sex", "gender")}
        result.append(session_case("long579", subject, session, files, participant))
    note_unused(table, (subject for subject, _ in found), "participants.tsv", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _age(folder: Path, row: Row, session: str, notes: Notes) -> float | None:
    low, high = PLAUSIBLE_YEARS
    visit = Row(f"{row.name}_{session}", _visit(folder, session), notes)
    if visit.text("age"):
        return visit.number("age", low=low, high=high)
    for column in row.cells:
        if re.search(rf"(^|\D)ses(sion)?0?{session}(\D|$)", column) and "age" in column and row.text(column):
            months = 12.0 if "month" in column else 1.0
            value = row.number(column, low=low * months, high=high * months)
            return None if value is None else round(value / months, 2)
    birth, day = to_date(row.text("dob", "birthdate", "dateofbirth")), to_date(visit.text("acqtime", "date"))
    if birth is None or day is None:
        return None
    return visit_age if low <= (visit_age := round(years_between(birth, day), 2)) <= high else None


def _visit(folder: Path, session: str) -> Mapping[str, str]:
    """The row of a session in sessions.tsv, else the first dated row of its scans.tsv; empty where there is none."""
    sessions = folder / f"{folder.name}_sessions.tsv"
    scans = folder / f"ses-{session}" / f"{folder.name}_ses-{session}_scans.tsv"
    for row in read_sheet(sessions) if sessions.is_file() else []:
        if row.get("sessionid", "").removeprefix("ses-") == session:
            return row
    dated = [row for row in (read_sheet(scans) if scans.is_file() else []) if not missing(row.get("acqtime", ""))]
    return min(dated, key=lambda row: row["acqtime"]) if dated else {}
