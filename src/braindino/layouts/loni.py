"""LONI archive downloads (ADNI, PPMI): `<subject>/<series description>/<date_time>/<image id>/` with NIfTI or DICOM.

A folder of DICOM files is one scan: its path is the folder. The contrast is read from the series description.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from braindino.layouts.cases import Notes

EXPECTED = "<subject>/<series description>/<date>_<time>/<image id>/ with .nii or .dcm files"
_CONTRASTS = (
    ("FLAIR", r"flair"),
    ("T1w", r"mp-?_?rage|\bmpr\b|^mpr|_mpr_|spgr|t1|bravo|3d_?tfe"),
    ("T2w", r"t2"),
)
_NOT_ANATOMICAL = (
    r"dti|dwi|asl|bold|fmri|rest|localizer|survey|scout|map|swi|star|pd.?t2|dual|t2.?pd|calibration|b1_?cal"
)
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


@dataclass(frozen=True)
class Series:
    """One image of the archive."""

    subject: str
    date: dt.date
    contrast: str
    image: str
    """Image id: I and a number."""
    path: Path


def read_loni(root: Path, subject: str, notes: Notes) -> list[Series]:
    """Every anatomical series below `root` whose subject folder matches the regular expression `subject`.

    `root` may also hold the folder of the study (`ADNI/`, `PPMI/`) that the archive packs around the subjects. Series
    of other kinds and folders without an image or a date are noted.

    Raises:
        ValueError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no folder {root}; expected one with {EXPECTED}")
    people = [p for p in sorted([*root.glob("*"), *root.glob("*/*")]) if p.is_dir() and re.fullmatch(subject, p.name)]
    found: list[Series] = []
    for person in people:
        for folder in sorted(person.glob("*/*/*")):
            series, date = folder.parent.parent.name, _DATE.match(folder.parent.name)
            contrast = contrast_of(series)
            path = _image(folder) if folder.is_dir() else None
            if not contrast:
                notes.add(f"left out, series {series} is not read as an anatomical contrast", person.name)
            elif path is None or date is None:
                notes.add("left out, no single image or no date in the folder", str(folder.relative_to(root)))
            else:
                day = dt.date(*(int(part) for part in date.groups()))
                found.append(Series(person.name, day, contrast, folder.name, path))
    return found


def contrast_of(series: str) -> str:
    """The contrast that a series description names, or "" for what is not read (diffusion, function, dual echo)."""
    name = series.lower()
    if re.search(_NOT_ANATOMICAL, name):
        return ""
    return next((contrast for contrast, pattern in _CONTRASTS if re.search(pattern, name)), "")


def by_visit(
    series: list[Series], notes: Notes, selected: Mapping[str, bool] | None = None
) -> dict[tuple[str, dt.date], dict[str, Path]]:
    """One image per contrast and visit (subject and day).

    Of several the one that quality control selected (`selected`: image id to verdict) is taken, else the lowest image
    id; the others are noted.
    """
    verdicts = selected or {}
    visits: dict[tuple[str, dt.date], dict[str, Path]] = {}
    ranked = sorted(series, key=lambda s: (not verdicts.get(s.image, False), _number(s.image), s.image))
    for one in ranked:
        images = visits.setdefault((one.subject, one.date), {})
        if one.contrast in images:
            notes.add(f"left out, another {one.contrast} of the visit was taken", f"{one.subject} {one.image}")
        else:
            images[one.contrast] = one.path
    return dict(sorted(visits.items()))


def to_date(text: str) -> dt.date | None:
    """A day written 2006-04-18, 4/18/2006, 04/2006 (the 15th) or with a time behind it; None for anything else."""
    patterns = (("%Y-%m-%d", 10), ("%m/%d/%Y", 10), ("%m/%d/%y", 8))
    for pattern, length in patterns:
        try:
            return dt.datetime.strptime(text.strip().split(" ")[0][:length], pattern).date()
        except ValueError:
            continue
    match = re.fullmatch(r"(\d{1,2})/(\d{4})", text.strip())
    return dt.date(int(match[2]), int(match[1]), 15) if match and 1 <= int(match[1]) <= 12 else None


def years_between(first: dt.date, second: dt.date) -> float:
    """Years of 365.25 days from `first` to `second`."""
    return (second - first).days / 365.25


def _image(folder: Path) -> Path | None:
    images = [path for path in sorted(folder.iterdir()) if path.name.endswith((".nii", ".nii.gz"))]
    if len(images) == 1:
        return images[0]
    return folder if not images and any(path.suffix.lower() == ".dcm" for path in folder.iterdir()) else None


def _number(image: str) -> int:
    digits = re.sub(r"\D", "", image)
    return int(digits) if digits else 0
