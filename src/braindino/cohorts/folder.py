"""Any folder of NIfTI files and DICOM series, or a single file: one subject per image, for pretraining and encoding.

The subject is the file name without its endings, or the name of the folder that holds the DICOM files of one series;
the contrast is the BIDS suffix where the name has one. A file `<name>_mask.nii.gz` beside `<name>.nii.gz` is taken as
its brain mask.
"""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.cases import CONTRASTS, Notes, Tell
from braindino.progress import note
from braindino.types import Case, Scan
from braindino.volume.dicom import is_dicom

SOURCE = "Your own files: any folder with .nii or .nii.gz images or DICOM series, also in sub-folders."
TERMS = "Your own."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """One case per image below `root` (or for the file `root`), sorted by name. Told: masks without an image.

    Raises:
        ValueError: no image found, or two images that would get the same name.
    """
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*.nii*") if not p.name.startswith("."))
    images = [path for path in files if path.name.endswith((".nii", ".nii.gz")) and not _stem(path).endswith("_mask")]
    images += _dicom_folders(root)
    if not images:
        raise ValueError(f"no .nii or .nii.gz image and no DICOM series in {root}")
    found: dict[str, Case] = {}
    for path in sorted(images):
        name = _name(path, root)
        if name in found:
            raise ValueError(f"{path} and {found[name].scans[0].path} have the same name; rename one")
        suffix = name.rpartition("_")[2]
        contrast = suffix if suffix in CONTRASTS else "unknown"
        mask = next(
            (p for p in (path.with_name(_stem(path) + "_mask" + end) for end in (".nii.gz", ".nii")) if p.is_file()),
            None,
        )
        found[name] = Case(name, (Scan(root.name if root.is_dir() else "file", name, contrast, path, brain_mask=mask),))
    notes = Notes()
    for path in sorted({*files} - {*images} - {scan.brain_mask for case in found.values() for scan in case.scans}):
        notes.add("left out, no image or a mask without its image", path.name)
    notes.tell(tell)
    return tuple(found.values())


def _dicom_folders(root: Path) -> list[Path]:
    """Folders that hold DICOM files, `root` itself among them."""
    return [folder for folder in [root, *sorted(root.rglob("*"))] if folder.is_dir() and is_dicom(folder)]


def _name(path: Path, root: Path) -> str:
    """Path below `root` in one word, without the endings of a file."""
    stem = path.name if path.is_dir() else _stem(path)
    return stem if path == root or root.is_file() else "_".join(path.relative_to(root).with_name(stem).parts)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
