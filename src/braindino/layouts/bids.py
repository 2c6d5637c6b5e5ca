"""Find the anatomical images of a BIDS tree, raw or derivative: file names to cases, no voxel read.

Names are key-value pairs and a suffix, `sub-01_ses-02_ce-gadolinium_desc-preproc_T1w.nii.gz`. A T1w with a `ce-`
entity is T1ce. Masks (`desc-brain_mask`) and label maps (`..._dseg`, lesion masks) attach to the images of their
session. Of several images of one contrast in a session the one with the fewest entities is taken, then the one with
the lowest run, then the first by name; the others are noted, as is every file that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.tables import missing, to_number
from braindino.progress import note
from braindino.record import read_table
from braindino.types import Case

SUFFIXES = ("T1w", "T2w", "FLAIR", "PDw", "T2starw")
"""BIDS suffixes that are read as contrasts; a T1w after contrast agent becomes T1ce."""
EXPECTED = "sub-<id>[/ses-<id>]/anat/sub-<id>..._T1w.nii.gz (or T2w, FLAIR)"
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
"""Spellings of sex that need no code book."""
_ENTITY = re.compile(r"[a-zA-Z]+-[a-zA-Z0-9+]+")


@dataclass(frozen=True)
class Session:
    """The files of one session: images by contrast, brain mask and label map where there are any."""

    images: dict[str, Path] = field(default_factory=dict)
    brain_mask: Path | None = None
    label_map: Path | None = None


def read_bids(root: Path, cohort: str = "bids", tell: Tell = note) -> tuple[Case, ...]:
    """Every session of every subject below `root` that has an anatomical image, in order of their names.

    The participants row goes along with `sex` as F or M and `age` as a number where they can be read so; a row of
    `sub-<id>_sessions.tsv` overrides it for its session. Told: files left out, subjects without a row, doubled rows.

    Raises:
        ValueError: no such folder, no image in it, or a participants table without a `participant_id`.
    """
    root, notes = Path(root), Notes()
    if not root.is_dir():
        raise ValueError(f"no folder {root}; give the root of a BIDS dataset")
    sessions = bids_sessions(root, notes)
    if not sessions:
        raise ValueError(f"{root} holds no anatomical image; expected {EXPECTED}")
    table = participants(root / "participants.tsv", notes)
    cases = []
    for (subject, session), found in sessions.items():
        if table is not None and subject not in table:
            notes.add("no row in participants.tsv", f"sub-{subject}")
        row = {**(table or {}).get(subject, {}), **_session_row(root, subject, session, notes)}
        cases.append(session_case(cohort, subject, session, found, row, site=str(row.get("site", "") or "")))
    for subject in sorted((table or {}).keys() - {subject for subject, _ in sessions}):
        notes.add("rows of participants.tsv without a scan", f"sub-{subject}")
    notes.tell(tell)
    return ordered(cases, root, EXPECTED)


def session_case(
    cohort: str, subject: str, session: str, found: Session, row: Mapping[str, Any], site: str = ""
) -> Case:
    """The case of one session."""
    return make_case(
        cohort,
        subject,
        found.images,
        session=session,
        site=site,
        participant=row,
        brain_mask=found.brain_mask,
        label_map=found.label_map,
    )


def bids_sessions(root: Path, notes: Notes) -> dict[tuple[str, str], Session]:
    """Files by (subject, session), found in `sub-*/anat` and `sub-*/ses-*/anat`, sessions with an image only."""
    sessions: dict[tuple[str, str], Session] = {}
    for folder in sorted([*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")]):
        session = folder.parent.name.removeprefix("ses-") if folder.parent.name.startswith("ses-") else ""
        subject = folder.relative_to(root).parts[0].removeprefix("sub-")
        files = [path for path in sorted(folder.iterdir()) if path.name.endswith((".nii", ".nii.gz"))]
        found = one_session(_own(files, subject, session, notes), notes)
        if found.images:
            sessions[subject, session] = found
    return dict(sorted(sessions.items()))


def one_session(files: Iterable[Path], notes: Notes) -> Session:
    """Which file is which in one session; where several fit, the rule of this module decides and notes the others."""
    roles: dict[str, list[Path]] = {}
    for path in files:
        if role := _role(*entities(path)):
            roles.setdefault(role, []).append(path)
    chosen = {}
    for role, paths in roles.items():
        chosen[role], *others = sorted(paths, key=_rank)
        for other in others:
            notes.add(f"left out, another {role} of the session was taken", other.name)
    mask, labels = chosen.pop("brain mask", None), chosen.pop("label map", None)
    return Session(chosen, mask, labels)


def entities(path: Path) -> tuple[dict[str, str], str]:
    """Key-value pairs and suffix of a BIDS file name.

    Raises:
        ValueError: a part of the name is not `key-value`, or a key appears twice.
    """
    *parts, suffix = path.name.removesuffix(".gz").removesuffix(".nii").split("_")
    found: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("-")
        if not _ENTITY.fullmatch(part) or key in found:
            raise ValueError(
                f"{path}: '{part}' is not a BIDS entity key-value, or its key appears twice; rename the file"
            )
        found[key] = value
    return found, suffix


def participants(path: Path, notes: Notes) -> dict[str, dict[str, Any]] | None:
    """Rows of a participants table by subject, or None where there is no such file; missing values are left out.

    A cell on which the rows of one subject disagree is left out and noted.

    Raises:
        ValueError: not a table, or no column participant_id.
    """
    if not path.is_file():
        return None
    table = read_table(path, text=("participant_id",))
    if "participant_id" not in table.columns:
        raise ValueError(f"{path} has no column participant_id; its columns: {', '.join(map(str, table.columns))}")
    rows: dict[str, dict[str, Any]] = {}
    conflicts: dict[str, set[str]] = {}
    for record in table.to_dict("records"):
        subject = str(record.pop("participant_id")).removeprefix("sub-")
        row = {str(key): value for key, value in record.items() if value == value and not missing(str(value))}
        if subject in rows:
            notes.add(f"rows of {path.parent.name}/{path.name} for one subject, merged", f"sub-{subject}")
            known = rows[subject]
            conflicts.setdefault(subject, set()).update(key for key in row if key in known and known[key] != row[key])
        rows.setdefault(subject, {}).update(row)
    for subject, columns in conflicts.items():
        for column in sorted(columns):
            del rows[subject][column]
            notes.add(f"{path.name}: {column} differs between rows of one subject and is left empty", f"sub-{subject}")
    return {subject: _house(row) for subject, row in rows.items()}


def _own(files: Iterable[Path], subject: str, session: str, notes: Notes) -> list[Path]:
    """The files whose names are BIDS names and agree with their folder; the others are noted."""
    kept = []
    for path in files:
        try:
            pairs, suffix = entities(path)
        except ValueError:
            notes.add("left out, its name is not a BIDS name", path.name)
            continue
        if pairs.get("sub") == subject and pairs.get("ses", "") == session:
            kept.append(path)
        elif _role(pairs, suffix):
            notes.add("left out, its name contradicts its folder", f"{path.parent.parent.name}/anat/{path.name}")
    return kept


def _role(pairs: Mapping[str, str], suffix: str) -> str:
    """What a file is: the contrast of an image, "brain mask", "label map", or "" for anything else."""
    if suffix in SUFFIXES:
        return "T1ce" if suffix == "T1w" and "ce" in pairs else suffix
    if suffix == "mask" and pairs.get("desc") == "brain":
        return "brain mask"
    lesion = suffix == "mask" and (pairs.get("label") in ("L", "lesion") or "lesion" in pairs.get("desc", ""))
    return "label map" if suffix == "dseg" or lesion else ""


def _rank(path: Path) -> tuple[int, float, str]:
    pairs = entities(path)[0]
    run = to_number(pairs.get("run", "0"))
    return len(pairs), run if run is not None else float("inf"), path.name


def _session_row(root: Path, subject: str, session: str, notes: Notes) -> dict[str, Any]:
    """The row of one session in `sub-<id>/sub-<id>_sessions.tsv`; empty where there is none."""
    path = root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    table = read_table(path, text=("session_id",))
    if "session_id" not in table.columns:
        notes.add("not read, it has no column session_id", path.name)
        return {}
    rows = table[table["session_id"].str.removeprefix("ses-") == session].drop(columns="session_id").to_dict("records")
    if len(rows) > 1:
        notes.add("several rows for one session in its sessions.tsv, none is used", f"sub-{subject}_ses-{session}")
        return {}
    return _house({str(k): v for row in rows for k, v in row.items() if v == v and not missing(str(v))})


def _house(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with sex as F or M under `sex` and age as a number under `age`, where they can be read so."""
    result: dict[str, Any] = {}
    for column, value in row.items():
        if column.lower() in ("sex", "gender") and str(value).lower() in SEXES:
            result["sex"] = SEXES[str(value).lower()]
        elif column.lower() == "age" and to_number(str(value)) is not None:
            result["age"] = to_number(value) if isinstance(value, str) else value
        else:
            result[column] = value
    return result
