"""Find the anatomical images of a BIDS tree, raw or derivative: file names to cases, no voxel read.

Names are key-value pairs and a suffix, `sub-01_ses-02_ce-gadolinium_desc-preproc_T1w.nii.gz`. A T1w with a `ce-`
entity is T1ce. Masks (`desc-brain_mask`) and label maps (`..._dseg`) attach to the images of their session.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from braindino.record import read_table
from braindino.types import Case, Scan

CONTRASTS = ("T1w", "T2w", "FLAIR", "PDw", "T2starw")
"""BIDS suffixes that are read as contrasts; a T1w after contrast agent becomes T1ce."""
_ENTITY = re.compile(r"[a-zA-Z]+-[a-zA-Z0-9+]+")


def read_bids(root: Path, cohort: str = "bids") -> tuple[Case, ...]:
    """Every session of every subject below `root` that has an anatomical image, in order of their names.

    Raises:
        ValueError: no such folder, no image in it, a file name that contradicts its folder, two images of one contrast
            in a session, a participants table without a `participant_id`, with one twice, or without one of the
            subjects.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no folder {root}; give the root of a BIDS dataset")
    sessions = _sessions(root)
    if not sessions:
        raise ValueError(
            f"{root} holds no anatomical image; "
            "expected sub-<id>[/ses-<id>]/anat/sub-<id>..._T1w.nii.gz (or T2w, FLAIR)"
        )
    table = _participants(root)
    return tuple(_case(cohort, *key, files, table) for key, files in sorted(sessions.items()))


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


def _sessions(root: Path) -> dict[tuple[str, str], list[Path]]:
    """Images by (subject, session), found in `sub-*/anat` and `sub-*/ses-*/anat`."""
    sessions: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for pattern in ("sub-*/anat", "sub-*/ses-*/anat"):
        for folder in sorted(root.glob(pattern)):
            session = folder.parent.name.removeprefix("ses-") if folder.parent.name.startswith("ses-") else ""
            subject = next(part for part in folder.relative_to(root).parts).removeprefix("sub-")
            images = [path for path in sorted(folder.iterdir()) if path.name.endswith((".nii", ".nii.gz"))]
            if any(entities(path)[1] in CONTRASTS for path in images):
                sessions[subject, session] = images
    return sessions


def _case(
    cohort: str, subject: str, session: str, files: list[Path], table: Mapping[str, Mapping[str, Any]] | None
) -> Case:
    images: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for path in files:
        pairs, suffix = entities(path)
        if pairs.get("sub") != subject or pairs.get("ses", "") != session:
            raise ValueError(f"{path}: its name contradicts its folder (subject {subject!r}, session {session!r})")
        role, kind = _role(pairs, suffix)
        place = images if role == "image" else others
        if role and kind in place:
            raise ValueError(f"two files for {kind} of sub-{subject}: {place[kind].name} and {path.name}; keep one")
        if role:
            place[kind] = path
    row = _row(table, subject)
    site = str(row.get("site", "") or "")
    scans = tuple(
        Scan(cohort, subject, contrast, path, session, site, others.get("brain mask"), others.get("label map"))
        for contrast, path in sorted(images.items(), key=lambda item: _ORDER.index(item[0]))
    )
    return Case(subject, scans, session, site, row)


_ORDER = ("T1w", "T1ce", "T2w", "FLAIR", "PDw", "T2starw")


def _role(pairs: Mapping[str, str], suffix: str) -> tuple[str, str]:
    """What a file is: an image of a contrast, the brain mask, the label map, or ("", "") for anything else."""
    if suffix in CONTRASTS:
        return "image", "T1ce" if suffix == "T1w" and "ce" in pairs else suffix
    if suffix == "mask" and pairs.get("desc") == "brain":
        return "other", "brain mask"
    return ("other", "label map") if suffix == "dseg" else ("", "")


def _participants(root: Path) -> dict[str, dict[str, Any]] | None:
    """Rows of participants.tsv by subject; None where there is no table. Missing values are left out of a row."""
    path = root / "participants.tsv"
    if not path.is_file():
        return None
    table = read_table(path, text=("participant_id",))
    if "participant_id" not in table.columns:
        raise ValueError(f"{path} has no column participant_id; its columns: {', '.join(map(str, table.columns))}")
    rows: dict[str, dict[str, Any]] = {}
    for record in table.to_dict("records"):
        subject = str(record.pop("participant_id")).removeprefix("sub-")
        if subject in rows:
            raise ValueError(f"{path} lists sub-{subject} twice; keep one row per participant")
        rows[subject] = {str(key): value for key, value in record.items() if value == value and value != ""}
    return rows


def _row(table: Mapping[str, Mapping[str, Any]] | None, subject: str) -> Mapping[str, Any]:
    if table is None:
        return {}
    if subject not in table:
        raise ValueError(f"sub-{subject} has images but no row in participants.tsv; add one")
    return table[subject]
