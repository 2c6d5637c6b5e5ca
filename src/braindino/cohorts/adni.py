"""ADNI: healthy ageing, mild cognitive impairment and dementia, T1w and FLAIR, many visits of one person."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.loni import EXPECTED, by_visit, read_loni, to_date, years_between
from braindino.layouts.tables import Row, find_rows, missing, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "adni.loni.usc.edu after application: images (NIfTI or DICOM) in the archive's own folders, with ADNIMERGE.csv or "
    "DXSUM*.csv, and MAYOADIRL_MRI_IMAGEQC*.csv where at hand, beside them."
)
TERMS = (
    "ADNI Data Use Agreement: no participant-level data may be passed on, raw or derived; embeddings, predictions and "
    "pictures of single people are derived data."
)
WINDOW_DAYS = 180
"""A diagnosis counts for a scan when it was made at most this many days before or after it."""
_MERGE = {"cn": "healthy", "mci": "mci", "dementia": "dementia"}
_DXSUM = {"1": "healthy", "2": "mci", "3": "dementia"}


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every visit (subject and day of the scan) with `age`, `sex` and `diagnosis` (healthy, mci, dementia).

    Age is that at the scan: AGE of ADNIMERGE, which is the age at baseline on every row, plus the years since
    EXAMDATE_bl. The diagnosis is the known one nearest in time, DX (CN, MCI, Dementia) or DIAGNOSIS (1, 2, 3), within
    `WINDOW_DAYS`; of two equally near the earlier. Of several series of a visit the one that quality control selected
    is taken, else the lowest image id.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    series = read_loni(root, r"\d{3}_S_\d{4,5}", notes)
    control = find_rows(root, ("MAYOADIRL_MRI_IMAGEQC*",), "ADNI's table of selected series", notes) if series else []
    chosen = {"I" + row.get("loniimage", "").lstrip("I"): row.get("seriesselected") == "1" for row in control}
    visits = by_visit(series, notes, chosen)
    merge = find_rows(root, ("ADNIMERGE*",), "ADNIMERGE.csv from the archive", notes) if series else []
    people = rows_by([row for row in merge if _baseline(row)], lambda row: row.get("ptid", ""), "ADNIMERGE", notes)
    known = _diagnoses(merge, "dx", _MERGE, notes)
    for person, days in _diagnoses(_dxsum(root, merge, notes), "diagnosis", _DXSUM, notes).items():
        known[person] = {**days, **known.get(person, {})}
    result = []
    for (person, day), images in visits.items():
        row = people.get(person, Row(person, {}, notes))
        participant = {
            "age": _age(row, day),
            "sex": row.choice({"male": "M", "female": "F"}, "PTGENDER"),
            "diagnosis": _nearest(known.get(person, {}), day),
        }
        for name in ("age", "diagnosis"):
            if participant[name] in (None, ""):
                reason = f"no diagnosis within {WINDOW_DAYS} days of the scan" if name == "diagnosis" else "no age"
                notes.add(reason, f"{person}_{day:%Y%m%d}")
        result.append(make_case("adni", person, images, session=f"{day:%Y%m%d}", participant=participant))
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _baseline(row: Mapping[str, str]) -> bool:
    return row.get("viscode", "bl").lower() == "bl"


def _dxsum(root: Path, merge: list[dict[str, str]], notes: Notes) -> list[dict[str, str]]:
    """Rows of DXSUM; its absence is worth a note only where ADNIMERGE is absent too."""
    return find_rows(root, ("DXSUM*",), "DXSUM from the archive", Notes() if merge else notes)


def _age(row: Row, day: dt.date) -> float | None:
    first = to_date(row.text("EXAMDATE_bl", "EXAMDATE"))
    baseline = row.number("AGE", high=120)
    return round(baseline + years_between(first, day), 2) if baseline is not None and first else None


def _diagnoses(
    rows: Iterable[Mapping[str, str]], column: str, codes: Mapping[str, str], notes: Notes
) -> dict[str, dict[dt.date, str]]:
    """Diagnosis by person and day; days on which rows of one person disagree are left out and noted."""
    found: dict[str, dict[dt.date, str]] = {}
    disputed = set()
    for cells in rows:
        person, day = cells.get("ptid", ""), to_date(cells.get("examdate", ""))
        if not person or day is None or missing(cells.get(column, "")):
            continue
        if not (label := Row(person, cells, notes).choice(codes, column)):
            continue
        if found.setdefault(person, {}).setdefault(day, label) != label:
            disputed.add((person, day))
    for person, day in sorted(disputed):
        del found[person][day]
        notes.add("several diagnoses on one day, none is used", f"{person} {day}")
    return found


def _nearest(days: Mapping[dt.date, str], scan: dt.date) -> str:
    near = [(abs((day - scan).days), day) for day in days if abs((day - scan).days) <= WINDOW_DAYS]
    return days[min(near)[1]] if near else ""
