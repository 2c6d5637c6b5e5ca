"""ADHD-200: children and adolescents with ADHD and controls at eight sites, T1w."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import SEXES, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.indi import EXPECTED, read_indi
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "fcon_1000.projects.nitrc.org/indi/adhd200: the site folders with their participants.tsv (or *_phenotypic.csv); "
    "register at NITRC first."
)
TERMS = "Non-commercial use only; register at NITRC first."
_DIAGNOSES = {
    "0": "healthy",
    "typically developing children": "healthy",
    "1": "adhd",
    "adhd-combined": "adhd",
    "2": "adhd",
    "adhd-hyperactive/impulsive": "adhd",
    "3": "adhd",
    "adhd-inattentive": "adhd",
}


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with `age`, `sex` (code 0 is F, 1 M) and `diagnosis` from DX (0 healthy; 1, 2, 3 adhd).

    NYU, Peking_1 and Pittsburgh list their test subjects twice: the rows are merged, a cell on which they differ is
    left empty. Diagnoses that are pending or withheld are missing. WashU holds controls only, so that a model that
    knows the site knows something of the diagnosis.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    visits = read_indi(root, notes)
    advice = "participants.tsv or <site>_phenotypic.csv of each site"
    rows = [_plain(row) for row in find_rows(root, ("participants", "*phenotypic*"), advice, notes)]
    table = rows_by(rows, _subject, "the participants table", notes)
    result = []
    for visit in visits:
        row = row_of(table, visit.subject.lstrip("0"), "the participants table", notes, visit.subject)
        participant = {
            "age": row.number("age", high=120),
            "sex": row.choice({**SEXES, "0": "F", "1": "M"}, "gender", "sex"),
            "diagnosis": row.choice(_DIAGNOSES, "dx"),
        }
        result.append(session_case("adhd200", visit.subject, visit.session, visit.files, participant, visit.site))
    note_unused(table, (visit.subject.lstrip("0") for visit in visits), "the participants table", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _plain(row: Mapping[str, str]) -> dict[str, str]:
    """The row without the words that stand for a diagnosis not yet given, so that merging sees a missing cell."""
    return {column: "" if text.lower() in ("pending", "withheld") else text for column, text in row.items()}


def _subject(row: Mapping[str, str]) -> str:
    return (row.get("participantid") or row.get("scandirid") or "").removeprefix("sub-").lstrip("0")
