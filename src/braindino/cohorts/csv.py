"""A manifest: a CSV or TSV file (or Excel sheet) with one row per image, for data in any layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindino.layouts.bids import SEXES
from braindino.layouts.cases import CONTRASTS, Notes, Tell
from braindino.layouts.tables import missing, read_sheet, to_number
from braindino.progress import note
from braindino.types import Case, Scan

SOURCE = "Your own manifest: path, subject, contrast; optional session, site, label_map, brain_mask, other columns."
TERMS = "Those of the data in it."
NEEDED = ("path", "subject", "contrast")
IDS = ("subject", "session")
FILES = ("path", "label_map", "brain_mask")
OWN = (*NEEDED, *FILES, "session", "site")


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session of the manifest `root`; the cohort's name is `csv:` and the file's name without its ending.

    Paths are relative to the manifest's folder or absolute; contrasts are BIDS words (T1w, T1ce, T2w, FLAIR, PDw,
    T2starw) or your own; mask and label map lie on the grid of their row's image. Other columns go into the
    participant row, numbers as numbers. Told: files that do not exist (the image is left out), a second image of one
    contrast in a session (the first by path is kept), cells on which the rows of a session disagree (left empty).

    Raises:
        ValueError: no such file, a needed column or cell is missing, an id with / or \\ in it, or no image is left.
    """
    root, notes = Path(root), Notes()
    if not root.is_file():
        raise ValueError(f"{root} is not a file; expected a table with the columns {', '.join(NEEDED)}")
    sessions: dict[tuple[str, str], list[dict[str, str]]] = {}
    for number, row in enumerate(read_sheet(root, str.strip), start=2):
        if empty := [column for column in NEEDED if missing(row.get(column, ""))]:
            raise ValueError(f"{root}, line {number}: no {' and no '.join(empty)}; every row needs {', '.join(NEEDED)}")
        if bad := [row[column] for column in IDS if {"/", "\\"} & {*row.get(column, "")}]:
            raise ValueError(
                f"{root}, line {number}: {bad[0]!r} holds / or \\, but ids become names of files; rename it"
            )
        if all(path is None or path.exists() for path in (_file(root, row, column) for column in FILES)):
            sessions.setdefault((row["subject"], row.get("session", "")), []).append(row)
        else:
            notes.add("left out, the image or its mask or label map does not exist", row["path"])
    result = [_case(root, *key, rows, notes) for key, rows in sorted(sessions.items())]
    notes.tell(tell)
    if not result:
        raise ValueError(f"{root} names no image that exists; paths are relative to {root.parent}")
    return tuple(result)


def _case(root: Path, subject: str, session: str, rows: list[dict[str, str]], notes: Notes) -> Case:
    name = f"{subject}_{session}" if session else subject
    shared: dict[str, Any] = {}
    for column in sorted({column for row in rows for column in row} - {*OWN} | {"site"}):
        values = {row[column] for row in rows if not missing(row.get(column, ""))}
        if len(values) > 1:
            notes.add(f"{column} differs between rows of one session and is left empty", name)
        elif values:
            shared[column] = _value(column, values.pop())
    site = str(shared.pop("site", ""))
    scans: dict[str, Scan] = {}
    for row in sorted(rows, key=lambda row: row["path"]):
        path, labels, brain = (_file(root, row, column) for column in FILES)
        if row["contrast"] in scans:
            notes.add(f"left out, a second {row['contrast']} of {name}", row["path"])
        elif path is not None:
            scans[row["contrast"]] = Scan(
                f"csv:{root.stem}", subject, row["contrast"], path, session, site, brain, labels
            )
    known = [contrast for contrast in CONTRASTS if contrast in scans]
    return Case(subject, tuple(scans[c] for c in [*known, *sorted(scans.keys() - {*known})]), session, site, shared)


def _file(root: Path, row: dict[str, str], column: str) -> Path | None:
    return None if missing(row.get(column, "")) else root.parent / row[column]


def _value(column: str, text: str) -> Any:
    number = to_number(text)
    if column == "sex":
        return SEXES.get(text.lower(), text)
    return text if number is None or column in ("family", "site") else number
