"""Read the spreadsheets of published datasets: any separator and encoding, doubled rows, missing codes, conflicts.

Cells stay text until a column is asked for. Column names are compared without case, spaces and punctuation, since
releases of one sheet differ in these.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braindino.layouts.cases import Notes

ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".xls")
"""What is read as a table, in the order of preference where one sheet lies there in several formats."""
MISSING = frozenset(
    ["", "n/a", "na", "n.a.", "nan", "none", "null", ".", "#", "#n/a", "-", "not available", "unknown", "missing"]
)
"""Cells that say that there is no value, besides the numbers in `MISSING_NUMBERS`."""
MISSING_NUMBERS = (-9999.0, -999.0)


@dataclass(frozen=True)
class Row:
    """One row of a spreadsheet, read by column name; what cannot be read is noted and counts as missing."""

    name: str
    """Subject or session that the row is about."""
    cells: Mapping[str, str]
    """Text by squeezed column name."""
    notes: Notes

    def text(self, *columns: str) -> str:
        """The first of `columns` that holds a value, as text; "" where none does."""
        return next((text for text in (self.cells.get(squeeze(c), "") for c in columns) if not missing(text)), "")

    def number(self, *columns: str, low: float = 0.0, high: float = float("inf")) -> float | None:
        """The first of `columns` that holds a value, as a number in [low, high]; None where missing or noted."""
        text = self.text(*columns)
        if not text:
            return None
        value = to_number(text)
        if value is None or not low <= value <= high:
            self.notes.add(
                f"{columns[0]} is {text!r}, not a number in [{low:g}, {high:g}], and is left empty", self.name
            )
            return None
        return value

    def choice(self, codes: Mapping[str, str], *columns: str) -> str:
        """The meaning of a coded cell by `codes` (in lower case, numbers without ".0"); "" where missing or noted."""
        text = self.text(*columns)
        if not text:
            return ""
        value = to_number(text)
        key = text.lower() if value is None else f"{value:g}"
        if key not in codes:
            self.notes.add(f"{columns[0]} is {text!r}, which is not in its code book, and is left empty", self.name)
        return codes.get(key, "")


def squeeze(column: str) -> str:
    """A column name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", column.lower())


def missing(text: str) -> bool:
    """True for an empty cell and for the codes that stand for one."""
    return text.strip().lower() in MISSING or to_number(text) in MISSING_NUMBERS


def to_number(text: str) -> float | None:
    """A cell as a number; None where it is none.

    A decimal comma counts as a point, but for three digits behind it, which could be thousands.
    """
    plain = text.strip()
    if re.fullmatch(r"[+-]?\d+,(\d{1,2}|\d{4,})", plain):
        plain = plain.replace(",", ".")
    return float(plain) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", plain) else None


def find_rows(root: Path, patterns: Sequence[str], advice: str, notes: Notes) -> list[dict[str, str]]:
    """All rows of the tables in `root` or one folder below whose names match a pattern (any case, any ending).

    A sheet that lies there in several formats is read once. Where there is none, `advice` (which table, from where)
    is noted: scans without labels can still be used for pretraining.
    """
    found: dict[tuple[Path, str], Path] = {}
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        for path in sorted(folder.iterdir()):
            suitable = any(fnmatch.fnmatch(path.stem.lower(), pattern.lower()) for pattern in patterns)
            if suitable and path.suffix.lower() in ENDINGS and not path.name.startswith((".", "~")):
                same = found.get((folder, path.stem.lower()))
                if same is None or _preference(path) < _preference(same):
                    found[folder, path.stem.lower()] = path
    if not found:
        notes.add("no such table, so its columns are missing", advice)
    return [row for path in found.values() for row in read_sheet(path)]


def read_sheet(path: Path, column: Callable[[str], str] = squeeze) -> list[dict[str, str]]:
    """Rows of a .csv, .tsv, .txt, .xlsx or .xls file (every sheet) as text, by column name.

    `column` is applied to the names in the header; empty rows are left out.

    Raises:
        ValueError: not a table, or Excel without the `tables` extra.
    """
    grids = _excel(path) if path.suffix.lower() in (".xlsx", ".xls") else [_delimited(path)]
    if not any(grids):
        raise ValueError(f"{path} is empty, expected a table with a header")
    rows = []
    for grid in filter(None, grids):
        header = [column(name) for name in grid[0]]
        for line in ([text.strip() for text in line] for line in grid[1:]):
            if any(line):
                rows.append({name: text for name, text in zip(header, line, strict=False) if name})
    return rows


def rows_by(
    rows: Iterable[Mapping[str, str]], key: Callable[[Mapping[str, str]], str], what: str, notes: Notes
) -> dict[str, Row]:
    """One row for each key; rows with an empty key are left out and noted by line.

    Where a key has several rows, a cell keeps the one value that all filled cells share; where they differ it is left
    empty. Both are noted, and the result does not depend on the order of rows.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for number, row in enumerate(rows, start=2):
        if name := key(row):
            groups.setdefault(name, []).append(row)
        else:
            notes.add(f"rows of {what} that cannot be assigned, left out", f"line {number}")
    return {name: Row(name, _merge(name, group, what, notes), notes) for name, group in groups.items()}


def row_of(table: Mapping[str, Row], key: str, what: str, notes: Notes, name: str = "") -> Row:
    """The row of `key`, or an empty one; where there is a table but no such row, that is noted for `name`."""
    if key in table:
        return table[key]
    if table:
        notes.add(f"no row in {what}", name or key)
    return Row(name or key, {}, notes)


def note_unused(table: Mapping[str, Row], used: Iterable[str], what: str, notes: Notes) -> None:
    """Note the rows that no scan belongs to."""
    for key in sorted(table.keys() - set(used)):
        notes.add(f"rows of {what} without a scan", key)


def _merge(name: str, group: list[Mapping[str, str]], what: str, notes: Notes) -> Mapping[str, str]:
    if len(group) == 1:
        return group[0]
    notes.add(f"rows of {what} for one id, merged", f"{name} x {len(group)}")
    merged: dict[str, str] = {}
    for column in sorted({column for row in group for column in row}):
        values = {_canonical(row.get(column, "")) for row in group if not missing(row.get(column, ""))}
        if len(values) > 1:
            notes.add(f"{what}: {column} differs between rows of one id and is left empty", name)
        merged[column] = values.pop() if len(values) == 1 else ""
    return merged


def _canonical(text: str) -> str:
    value = to_number(text)
    return text.strip() if value is None else f"{value:.12g}"


def _preference(path: Path) -> int:
    return ENDINGS.index(path.suffix.lower())


def _delimited(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise ValueError(f"{path} is not a text table; export the sheet as CSV (UTF-8)")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise ValueError(f"{path} is not a table ({error}); export the sheet as CSV (UTF-8)") from None


def _excel(path: Path) -> list[list[list[str]]]:
    import pandas as pd

    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=str, keep_default_na=False)
    except ImportError:
        raise ValueError(
            f"{path}: reading Excel files needs the extra 'tables' (pip install 'braindino[tables]'); "
            f"or export the sheet as {path.with_suffix('.csv').name} beside it"
        ) from None
    except Exception as error:  # openpyxl and xlrd raise many kinds for a damaged file
        raise ValueError(f"{path} is not a readable Excel file ({error}); export the sheet as CSV beside it") from None
    return [[[str(text) for text in line] for line in sheet.to_numpy()] for sheet in sheets.values()]
