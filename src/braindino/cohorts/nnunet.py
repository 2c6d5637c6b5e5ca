"""A dataset in nnU-Net's raw layout: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from braindino.layouts.brats import RELEASES, release_of
from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.nnunet import Description, read_description
from braindino.progress import note
from braindino.types import Case

SOURCE = "nnU-Net raw data (nnUNet_raw/DatasetXXX_NAME), also the Medical Segmentation Decathlon's after conversion."
TERMS = "Those of the data in it."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case of imagesTr and imagesTs; the cohort's name is `nnunet:` and the folder's name.

    Channels become contrasts by their names in dataset.json, and label values get the scheme that its label names
    fit. The subject is the case; only names of BraTS tell subject and time point apart, and say who it is there
    (`also_in`). Told: channels that a case
    lacks, cases without a label map, label maps that fit no scheme (left out), files that belong to no case.

    Raises:
        ValueError: as `layouts.nnunet.read_description`; no case.
    """
    root, notes = Path(root), Notes()
    told = read_description(root)
    if not told.scheme:
        notes.add(f"label maps left out, their values fit no label scheme ({told.labels})", "dataset.json")
    found: dict[str, Case] = {}
    for name, images, labels in [*_listed(root, told), *_in_folders(root, told, notes)]:
        for number, contrast in enumerate(told.contrasts):
            if number not in images:
                notes.add(f"no {contrast}", name)
        if labels is None:
            notes.add("no label map", name)
        if name in found:
            notes.add("left out, a case of this name was read before", name)
            continue
        found[name] = _case(root, name, {told.contrasts[n]: path for n, path in images.items()}, labels, told.scheme)
    notes.tell(tell)
    return ordered(list(found.values()), root, "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz")


def _case(root: Path, name: str, images: dict[str, Path], labels: Path | None, scheme: str) -> Case:
    subject, session, group, also = name, "", "", ""
    if release := release_of(name):
        match = re.fullmatch(RELEASES[release].pattern, name)
        assert match is not None
        subject, session, group = match[1], match[2] if match.lastindex == 2 else "", RELEASES[release].group
        also = f"{release}/{subject}"
    kept = labels if scheme else None
    row = {"group": group, "label_scheme": scheme if kept else "", "also_in": also}
    cohort = f"nnunet:{root.resolve().name}"
    return make_case(cohort, subject, images, session=session, participant=row, label_map=kept)


def _listed(root: Path, told: Description) -> Iterator[tuple[str, dict[int, Path], Path | None]]:
    """The cases that dataset.json lists with their files."""
    for name, (images, labels) in sorted(told.files.items()):
        there = {number: root / path for number, path in images.items() if (root / path).is_file()}
        if there:
            yield name, there, _there(root / labels)


def _in_folders(root: Path, told: Description, notes: Notes) -> Iterator[tuple[str, dict[int, Path], Path | None]]:
    """The cases of the folders, by the names of their files."""
    for part in ("Tr", "Ts") if not told.files else ():
        found: dict[str, dict[int, Path]] = {}
        for path in sorted((root / f"images{part}").glob("*")):
            match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(told.ending)}", path.name)
            if match is None or int(match[2]) >= len(told.contrasts) or path.name.startswith("."):
                notes.add("left out, no image of a channel", f"images{part}/{path.name}")
                continue
            found.setdefault(match[1], {})[int(match[2])] = path
        for name, images in found.items():
            yield name, images, _there(root / f"labels{part}" / f"{name}{told.ending}")


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
