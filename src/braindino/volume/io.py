"""Read an image file or a DICOM series verified, as a volume in RAS; write a NIfTI file atomically."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped

from braindino.record import write_bytes
from braindino.types import Scan, Volume
from braindino.volume.dicom import converted
from braindino.volume.files import Stored, open_image, stem
from braindino.volume.orientation import affine_of, from_ras, to_ras

MAX_NONFINITE = 0.01
"""Largest tolerated share of NaN or infinite voxels; fewer are set to 0 and told in the history."""
GRID_TOLERANCE = 1e-2
"""Two affines that differ by no more than this in any entry (mm, and mm per voxel) are the same grid."""


def read_volume(path: Path | str, *, volume: int | str | None = None, assume_orientation: str | None = None) -> Volume:
    """Read one image as a float32 volume in RAS with lengths in millimetres.

    NIfTI-1 and -2 (`.nii`, `.nii.gz`, `.hdr` and `.img` pairs), Analyze pairs, or a folder with a DICOM series (extra
    `dicom`). The affine is the sform where its code is not 0, else the qform. The voxel array is reoriented by flips
    and axis swaps only, to the nearest axes: no voxel is interpolated. `scl_slope` of 0, NaN or infinity means no
    scaling. docs/volumes.md has every rule.

    Args:
        path: the file, either file of a pair, or the DICOM folder.
        volume: which image, where there are several: the number of a 4-D file's volume, or the name of one image of
            a DICOM folder (`NAME:NUMBER` where that is 4-D). Never chosen silently.
        assume_orientation: axis codes such as "RAS" for a file whose orientation codes are both 0, or Analyze.

    Returns:
        A volume with one contrast, named by the BIDS suffix in the file name or "unknown".

    Raises:
        ValueError: missing, truncated or damaged file, hostile or impossible header, unknown orientation, several
            images without `volume`, too many NaN voxels, constant image; the message says what to do.
    """
    path = Path(path)
    if not path.is_dir():
        return _read(path, path, _number(path, volume), assume_orientation)
    name, colon, number = (None, "", None) if volume is None else str(volume).partition(":")
    with converted(path, name) as (file, told):
        try:
            found = _read(file, path, int(number) if colon and number else None, assume_orientation)
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), f"{path} ({file.stem})")) from None
    return replace(found, history=(*told, *found.history))


def read_labels(
    path: Path | str, like: Volume, *, assume_orientation: str | None = None
) -> Shaped[np.ndarray, "i j k"]:
    """Read a label map or mask as int16 in RAS and require that it lies on the grid of `like`.

    Raises:
        ValueError: as `read_volume`; also labels that are no whole numbers within int16, or another grid than `like`.
    """
    path = Path(path)
    image = open_image(path)
    affine, _ = affine_of(image, path, assume_orientation)
    array, affine, _ = to_ras(_voxels(image, path, None), affine)
    whole = array.dtype.kind in "bui" or (np.isfinite(array).all() and np.array_equal(array, np.rint(array)))
    if not whole or array.min() < -32768 or array.max() > 32767:
        raise ValueError(f"{path}: label maps hold whole numbers only (to 32767); is this an image?")
    if array.shape != like.voxels.shape[1:] or not np.allclose(affine, like.affine, atol=GRID_TOLERANCE, rtol=0):
        raise ValueError(
            f"{path}: grid {array.shape} differs from its scan's {like.voxels.shape[1:]} or has another affine; "
            "resample the label map to the scan first"
        )
    return array.astype(np.int16)


def read_case(scans: Sequence[Scan], *, assume_orientation: str | None = None) -> Volume:
    """Read the contrasts of one session, which must share one grid, with brain mask and label map where given.

    Raises:
        ValueError: no scans, a file that cannot be read (see `read_volume`), or contrasts on different grids.
    """
    if not scans:
        raise ValueError("a case needs at least one scan")
    volumes = [read_volume(scan.path, volume=scan.volume, assume_orientation=assume_orientation) for scan in scans]
    first = volumes[0]
    for other in volumes[1:]:
        if other.voxels.shape != first.voxels.shape or not np.allclose(
            other.affine, first.affine, atol=GRID_TOLERANCE, rtol=0
        ):
            raise ValueError(
                f"{other.scans[0].path} and {first.scans[0].path} lie on different grids; co-register them first"
            )
    mask = next((scan.brain_mask for scan in scans if scan.brain_mask), None)
    labels = next((scan.label_map for scan in scans if scan.label_map), None)
    return replace(
        first,
        voxels=np.concatenate([v.voxels for v in volumes]),
        contrasts=tuple(scan.contrast for scan in scans),
        scans=tuple(scans),
        brain_mask=read_labels(mask, first, assume_orientation=assume_orientation) > 0 if mask else None,
        label_map=read_labels(labels, first, assume_orientation=assume_orientation) if labels else None,
        history=tuple(line for v in volumes for line in v.history),
    )


def write_nifti(path: Path | str, array: Shaped[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]) -> None:
    """Write an array as `.nii.gz` (or `.nii`), atomically and byte-reproducibly.

    The dtype on disk is the array's own (bool becomes uint8, float64 float32, wider integers int32): a derived
    image never inherits the integer header of its source. Gzip headers carry no time and no name.
    """
    kinds = {"b": np.uint8, "f": np.float32}
    dtype = array.dtype if array.dtype in (np.uint8, np.int16, np.int32) else kinds.get(array.dtype.kind, np.int32)
    image = nib.Nifti1Image(array.astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    data = image.to_bytes()
    write_bytes(Path(path), gzip.compress(data, compresslevel=1, mtime=0) if str(path).endswith(".gz") else data)


def as_stored(
    array: Shaped[np.ndarray, "i j k"], like: Volume
) -> tuple[Shaped[np.ndarray, "a b c"], Float[np.ndarray, "4 4"]]:
    """An array on the grid of a volume that was read, in the voxel order of its first file, with that file's affine.

    Flips and axis swaps only, so that the result lies on the file voxel for voxel. Of a DICOM folder, whose file is
    made in reading, the order stays RAS.

    Raises:
        ValueError: the file cannot be read any more, or has another shape than it had.
    """
    path = Path(like.scans[0].path)
    if path.is_dir():
        return array, like.affine
    image = open_image(path)
    affine, _ = affine_of(image, path, None)
    moved = from_ras(array, affine)
    if moved.shape != tuple(image.shape[:3]):
        raise ValueError(f"{path} has changed: it was read as {moved.shape}, and is now {tuple(image.shape[:3])}")
    return moved, affine


def _read(path: Path, shown: Path, volume: int | None, assume: str | None) -> Volume:
    """One image file; `shown` is what the scan is called after."""
    image = open_image(path)
    history = [] if shown != path else [f"read {path.name} ({image.kind}), whole file verified"]
    affine, told = affine_of(image, path, assume)
    history += [*image.repairs, *told, *filter(None, [image.scaling()])]
    array, affine, axes = to_ras(_voxels(image, path, volume), affine)
    if math.prod(image.shape[3:]) > 1:
        history.append(f"volume {volume} of {math.prod(image.shape[3:])} taken")
    with np.errstate(all="ignore"):  # what overflows float32 becomes infinite, and that is counted
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        share = 1 - float(finite.mean())
        if share > MAX_NONFINITE:
            raise ValueError(f"{path}: {share:.1%} of voxels are NaN or infinite (at most {MAX_NONFINITE:.0%} allowed)")
        array = np.where(finite, array, np.float32(0))
        history.append(f"{int((~finite).sum())} NaN or infinite voxels set to 0")
    if array.min() == array.max():
        raise ValueError(f"{path}: every voxel has the value {array.flat[0]:g}; this is not an image")
    if axes != "RAS":
        history.append(f"reoriented from {axes} to RAS")
    scan = Scan(cohort="", subject="", contrast=_contrast_in_name(shown), path=shown, volume=volume)
    return Volume(array[None], (scan.contrast,), affine, (scan,), history=tuple(history))


def _voxels(image: Stored, path: Path, volume: int | None) -> Shaped[np.ndarray, "a b c"]:
    count = math.prod(image.shape[3:])
    if volume is None and count > 1:
        raise ValueError(f"{path} holds {count} volumes; say which one (--volume 0 to {count - 1})")
    if volume is not None and not 0 <= volume < count:
        raise ValueError(f"{path} holds {count} volumes, there is no volume {volume}")
    with np.errstate(all="ignore"):  # a wild slope overflows; what comes of it is not finite, and refused
        return image.voxels(volume or 0)


def _number(path: Path, volume: int | str | None) -> int | None:
    try:
        return None if volume is None else int(volume)
    except ValueError:
        raise ValueError(f"{path} is one file: --volume must be the number of a 4-D volume, got {volume!r}") from None


def _contrast_in_name(path: Path) -> str:
    suffix = stem(path).rpartition("_")[2]
    return suffix if suffix in ("T1w", "T1ce", "T2w", "FLAIR", "PDw", "T2starw") else "unknown"
