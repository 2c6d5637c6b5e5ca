"""OASIS-3: about 1400 people of 42 to 97 years, many visits, T1w, T2w and FLAIR, with clinical dementia rating."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import Session, entities, one_session, session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.tables import Row, find_rows, rows_by, to_number
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "oasis-brains.org, OASIS-3 after agreement: session folders as the download script leaves them, with "
    "OASIS3_UDSb4_cdr.csv and OASIS3_demographics.csv beside them."
)
TERMS = "OASIS Data Use Agreement."
EXPECTED = "folders like OAS30001_MR_d0757/anat1/ with sub-OAS30001_ses-d0757_..._T1w.nii.gz"
WINDOW_DAYS = 365
"""A rating counts for a scan when it was made at most this many days before or after it."""


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every MR session with `age`, `sex`, `cdr` (CDRTOT of the nearest clinical day) and `diagnosis`.

    Days count from a subject's entry. Age is AgeatEntry plus the years since then. The rating is that of the nearest
    clinical day within `WINDOW_DAYS`, of two equally near the earlier; CDR 0 is healthy, above 0 dementia.

    Raises:
        ValueError: no folder or no session folder in it.
    """
    root, notes = Path(root), Notes()
    sessions = _sessions(root, notes)
    visits = find_rows(root, ("OASIS3_UDSb4_cdr*",), "the table from oasis-brains.org", notes) if sessions else []
    people = find_rows(root, ("OASIS3_demographics*",), "the table from oasis-brains.org", notes) if sessions else []
    ratings: dict[str, dict[int, Row]] = {}
    for visit, rating in rows_by(visits, _clinical_day, "OASIS3_UDSb4_cdr", notes).items():
        person, _, text = visit.partition("_")
        ratings.setdefault(person, {})[int(text)] = rating
    table = rows_by(people, lambda row: row.get("oasisid", ""), "OASIS3_demographics", notes)
    result = []
    for (subject, day), found in sessions.items():
        name = f"{subject}_d{day:04d}"
        row, nearest = table.get(subject, Row(subject, {}, notes)), _nearest(ratings.get(subject, {}), day)
        entry, cdr = row.number("AgeatEntry", high=120), nearest.number("CDRTOT", high=3) if nearest else None
        if ratings and cdr is None:
            notes.add(f"no rating within {WINDOW_DAYS} days of the scan", name)
        participant = {
            "age": None if entry is None else round(entry + day / 365.25, 2),
            "sex": row.choice({"1": "M", "2": "F", "m": "M", "f": "F"}, "GENDER"),
            "cdr": cdr,
            "diagnosis": None if cdr is None else "dementia" if cdr > 0 else "healthy",
        }
        result.append(session_case("oasis3", subject, f"d{day:04d}", found, participant))
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _sessions(root: Path, notes: Notes) -> dict[tuple[str, int], Session]:
    files: dict[tuple[str, int], list[Path]] = {}
    for folder in sorted([*root.glob("OAS3*_MR_d*"), *root.glob("*/OAS3*_MR_d*")]):
        match = re.fullmatch(r"(OAS3\d{4})_MR_d(\d+)", folder.name)
        for path in sorted([*folder.glob("anat*/*.nii*"), *folder.glob("anat*/NIFTI/*.nii*")]) if match else []:
            try:
                pairs, _ = entities(path)
            except ValueError:
                notes.add("left out, its name is not a BIDS name", path.name)
                continue
            if match and pairs.get("sub") == match[1]:
                files.setdefault((match[1], int(match[2])), []).append(path)
            else:
                notes.add("left out, its name contradicts its folder", path.name)
    found = {key: one_session(paths, notes) for key, paths in sorted(files.items())}
    return {key: session for key, session in found.items() if session.images}


def _clinical_day(row: Mapping[str, str]) -> str:
    """`<subject>_<day>` of a clinical row, "" where it has no rating."""
    label = re.search(r"_d(\d+)$", row.get("oasissessionlabel", ""))
    day = to_number(label[1] if label else row.get("daystovisit", ""))
    subject = row.get("oasisid", "")
    return (
        f"{subject}_{day:.0f}" if subject and day is not None and to_number(row.get("cdrtot", "")) is not None else ""
    )


def _nearest(ratings: Mapping[int, Row], day: int) -> Row | None:
    near = [(abs(other - day), other) for other in ratings if abs(other - day) <= WINDOW_DAYS]
    return ratings[min(near)[1]] if near else None
