"""PPMI: Parkinson's disease, prodromal people and controls, T1w, T2w and FLAIR, many visits of one person."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.loni import EXPECTED, by_visit, read_loni, to_date, years_between
from braindino.layouts.tables import Row, find_rows, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "ppmi-info.org after application: images (NIfTI or DICOM) in the archive's own folders, with "
    "Participant_Status*.csv and Demographics*.csv beside them."
)
TERMS = (
    "PPMI Data Use Agreement: no participant-level data may be passed on, raw or derived; embeddings, predictions and "
    "pictures of single people are derived data."
)
_COHORTS = {"1": "parkinson", "2": "healthy", "3": "swedd", "4": "prodromal", "9": ""}


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every visit (subject and day of the scan) with `age`, `sex` and `diagnosis` by COHORT at enrolment.

    COHORT is 1 parkinson, 2 healthy, 3 swedd (no dopaminergic deficit), 4 prodromal. Age is that at the scan: from
    BIRTHDT (a month; its 15th is taken), else ENROLL_AGE plus the years since ENROLL_DATE.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    visits = by_visit(read_loni(root, r"\d{4,6}", notes), notes)
    tables = [
        find_rows(root, (name,), f"{name.replace('*', '')} from the archive", notes) if visits else []
        for name in ("Participant_Status*", "Demographics*")
    ]
    status, people = (rows_by(rows, lambda row: row.get("patno", ""), "a PPMI table", notes) for rows in tables)
    result = []
    for (person, day), images in visits.items():
        enrolled, born = status.get(person, Row(person, {}, notes)), people.get(person, Row(person, {}, notes))
        participant = {
            "age": _age(born, enrolled, day),
            "sex": born.choice({"0": "F", "1": "M"}, "SEX"),
            "diagnosis": enrolled.choice(_COHORTS, "COHORT"),
        }
        if status and not participant["diagnosis"]:
            notes.add("no diagnosis", person)
        result.append(make_case("ppmi", person, images, session=f"{day:%Y%m%d}", participant=participant))
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _age(born: Row, enrolled: Row, day: dt.date) -> float | None:
    if birth := to_date(born.text("BIRTHDT")):
        return round(years_between(birth, day), 2)
    age, first = enrolled.number("ENROLL_AGE", high=120), to_date(enrolled.text("ENROLL_DATE"))
    return round(age + years_between(first, day), 2) if age is not None and first else None
