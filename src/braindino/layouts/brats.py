"""BraTS folders of every release: which release a name belongs to, its contrasts, its label scheme.

One folder per case, named like its files: `BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz` until 2021,
`BraTS-MEN-00004-001/BraTS-MEN-00004-001-t1c.nii.gz` from 2023, where the last number is the time point of one patient.
GoAT names have no time point, so repeated visits of a patient cannot be told there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.types import Case

_OLD = {"t1": "T1w", "t1ce": "T1ce", "t2": "T2w", "flair": "FLAIR"}
_NEW = {"t1n": "T1w", "t1c": "T1ce", "t2w": "T2w", "t2f": "FLAIR"}


@dataclass(frozen=True)
class Release:
    """How the folders of one release are named and what its label values mean."""

    pattern: str
    """Of a folder's name: group 1 is the subject, group 2, where there is one, the time point."""
    contrasts: dict[str, str]
    separator: str
    scheme: str
    group: str
    """What the patients have, for the participant column `group`."""
    example: str


RELEASES = {
    "brats2020": Release(r"(BraTS(?:18|19|20)_\w+)", _OLD, "_", "brats2021", "glioma", "BraTS20_Training_001"),
    "brats2021": Release(r"(BraTS2021_\d{5})", _OLD, "_", "brats2021", "glioma", "BraTS2021_00000"),
    "brats2023_gli": Release(r"(BraTS-GLI-\d{5})-(\d{3})", _NEW, "-", "brats2023", "glioma", "BraTS-GLI-00000-000"),
    "brats2023_mets": Release(
        r"(BraTS-MET-\d{5})-(\d{3})", _NEW, "-", "brats2023", "metastasis", "BraTS-MET-00002-000"
    ),
    "brats2023_men": Release(r"(BraTS-MEN-\d{5})-(\d{3})", _NEW, "-", "brats2023", "meningioma", "BraTS-MEN-00004-000"),
    "brats2023_ped": Release(r"(BraTS-PED-\d{5})-(\d{3})", _NEW, "-", "brats2023", "glioma", "BraTS-PED-00002-000"),
    "brats2023_ssa": Release(r"(BraTS-SSA-\d{5})-(\d{3})", _NEW, "-", "brats2023", "glioma", "BraTS-SSA-00002-000"),
    "brats2024_goat": Release(r"(BraTS-GoAT-\d{5})", _NEW, "-", "brats2023", "tumour", "BraTS-GoAT-00000"),
}
"""By name. Several have a cohort plug-in of that name; the others are here to be recognised and refused."""


def release_of(name: str) -> str:
    """The release that a folder's name belongs to, or "" for none."""
    return next((key for key, release in RELEASES.items() if re.fullmatch(release.pattern, name)), "")


def read_brats(root: Path, cohort: str, tell: Tell, families: dict[str, str] | None = None) -> tuple[Case, ...]:
    """Every case folder of the release `cohort` in `root` or up to two folders below.

    Told: contrasts that a case lacks, cases without a label map (validation sets have none), empty folders.

    Args:
        root: the folder into which the release was unpacked.
        cohort: key of `RELEASES`.
        tell: takes the notes.
        families: subject to family, for people who are known under two ids.

    Raises:
        ValueError: no folder of this release, or folders of another one.
    """
    root, notes, release = Path(root), Notes(), RELEASES[cohort]
    expected = f"folders like {release.example}"
    folders = _folders(root)
    if foreign := sorted({release_of(f.name) for f in folders} - {"", cohort}):
        names = ", ".join(next(f.name for f in folders if release_of(f.name) == other) for other in foreign)
        raise ValueError(
            f"{root} holds {names} ({', '.join(foreign)}), expected {expected}; give each release its own folder"
        )
    cases: dict[str, Case] = {}
    for folder in folders:
        match = re.fullmatch(release.pattern, folder.name)
        if match is None:
            continue
        if folder.name in cases:
            notes.add("left out, a folder of this name was read before", str(folder.relative_to(root)))
            continue
        subject, session = match[1], match[2] if match.lastindex == 2 else ""
        if case := _case(folder, cohort, subject, session, (families or {}).get(subject), notes):
            cases[folder.name] = case
    notes.tell(tell)
    return ordered(list(cases.values()), root, expected)


def _case(folder: Path, cohort: str, subject: str, session: str, family: str | None, notes: Notes) -> Case | None:
    release = RELEASES[cohort]
    files = {
        name: path
        for name in (*release.contrasts, "seg")
        for ending in (".nii", ".nii.gz")
        if (path := folder / f"{folder.name}{release.separator}{name}{ending}").is_file()
    }
    labels = files.pop("seg", None)
    if not files:
        notes.add("left out, its folder holds no image named like it", folder.name)
        return None
    for name, contrast in release.contrasts.items():
        if name not in files:
            notes.add(f"no {contrast}", folder.name)
    if labels is None:
        notes.add("no label map (as in validation sets)", folder.name)
    images = {release.contrasts[name]: path for name, path in files.items()}
    row = {"group": release.group, "label_scheme": release.scheme if labels else "", "family": family}
    return make_case(cohort, subject, images, session=session, participant=row, label_map=labels)


def _folders(root: Path) -> list[Path]:
    """Case folders in `root` or at most two folders below, in order of their names."""
    found: list[Path] = []
    level = [root] if root.is_dir() else []
    for _ in range(3):
        inside = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
        found += [path for path in inside if release_of(path.name)]
        level = [path for path in inside if not release_of(path.name)]
    return sorted(found, key=lambda path: (path.name, str(path)))
