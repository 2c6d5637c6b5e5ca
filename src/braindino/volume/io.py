"""Read a NIfTI file verified, reorient it to RAS, write one atomically.

A `.nii.gz` has a CRC that no slice-wise reader checks: here the whole member is always decompressed and checked,
with a byte budget, and header sizes are checked before anything is allocated.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from braindino.record import write_bytes
from braindino.types import Scan, Volume

MAX_BYTES = 2 << 30
"""Largest uncompressed file that is read (2 GiB): 256^3 float32 is 64 MiB, a 0.4 mm head about 0.5 GiB."""
MAX_SIDE = 2048
MAX_NONFINITE = 0.01
"""Largest tolerated share of NaN or infinite voxels; fewer are set to 0 and told in the history."""
SHEAR_TOLERANCE = 1e-2


def read_volume(path: Path | str, *, volume: int | None = None, assume_orientation: str | None = None) -> Volume:
    """Read one image (`.nii`, `.nii.gz`) as a float32 volume in RAS with lengths in millimetres.

    The affine is the sform where its code is not 0, else the qform. The voxel array is reoriented by flips and
    axis swaps only: no voxel is interpolated. `scl_slope` of 0, NaN or infinity means no scaling.

    Args:
        path: the file.
        volume: which volume of a 4-D file; never chosen silently.
        assume_orientation: axis codes such as "RAS" for a file whose orientation codes are both 0.

    Returns:
        A volume with one contrast, named by the BIDS suffix in the file name or "unknown".

    Raises:
        ValueError: missing, truncated or damaged file, hostile or impossible header, unknown orientation,
            4-D without `volume`, too many NaN voxels, constant image; the message says what to do.
    """
    path = Path(path)
    image = _open(path)
    history = [f"read {path.name}, whole file verified"]
    affine, told = _affine(image, path, assume_orientation)
    history.append(told)
    array = _voxels(image, path, volume)
    bad = ~np.isfinite(array)
    if share := float(bad.mean()):
        if share > MAX_NONFINITE:
            raise ValueError(f"{path}: {share:.1%} of voxels are NaN or infinite (at most {MAX_NONFINITE:.0%} allowed)")
        array = np.where(bad, np.float32(0), array)
        history.append(f"{int(bad.sum())} NaN or infinite voxels set to 0")
    if array.min() == array.max():
        raise ValueError(f"{path}: every voxel has the value {array.flat[0]:g}; this is not an image")
    array, affine, axes = to_ras(array, affine)
    if axes != "RAS":
        history.append(f"reoriented from {axes} to RAS")
    scan = Scan(cohort="", subject="", contrast=_contrast_in_name(path), path=path)
    return Volume(array[None], (scan.contrast,), affine, (scan,), history=tuple(history))


def read_labels(
    path: Path | str, like: Volume, *, assume_orientation: str | None = None
) -> Shaped[np.ndarray, "i j k"]:
    """Read a label map or mask as int16 in RAS and require that it lies on the grid of `like`.

    Raises:
        ValueError: as `read_volume`; also non-integer labels, or another grid than `like`.
    """
    path = Path(path)
    image = _open(path)
    affine, _ = _affine(image, path, assume_orientation)
    array = _voxels(image, path, None)
    if not np.isfinite(array).all() or np.any(array != np.rint(array)):
        raise ValueError(f"{path}: label maps hold whole numbers only; is this an image?")
    array, affine, _ = to_ras(array, affine)
    if array.shape != like.voxels.shape[1:] or not np.allclose(affine, like.affine, atol=1e-2):
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
    volumes = [read_volume(scan.path, assume_orientation=assume_orientation) for scan in scans]
    first = volumes[0]
    for other in volumes[1:]:
        if other.voxels.shape != first.voxels.shape or not np.allclose(other.affine, first.affine, atol=1e-2):
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


def to_ras(
    array: Shaped[np.ndarray, "a b c"], affine: Float[np.ndarray, "4 4"]
) -> tuple[Shaped[np.ndarray, "i j k"], Float[np.ndarray, "4 4"], str]:
    """Flip and swap axes so that they point nearest to Right, Anterior, Superior; also the old axis codes."""
    old = io_orientation(affine)
    change = ornt_transform(old, axcodes2ornt(("R", "A", "S")))
    moved = np.ascontiguousarray(apply_orientation(array, change))
    new_affine = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    return moved, new_affine, "".join(nib.orientations.ornt2axcodes(old))


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


def _open(path: Path) -> nib.Nifti1Image:
    """Header and bytes of a NIfTI file, decompressed and checked as a whole, before any voxel is touched."""
    if not path.is_file():
        raise ValueError(f"no such image: {path}" if not path.exists() else f"{path} is a folder, expected one image")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: expected a .nii or .nii.gz file")
    data = _gunzip(path) if path.name.endswith(".gz") else _within(path, path.read_bytes())
    try:
        size = int.from_bytes(data[:4], "little")
        kind = nib.Nifti2Image if 540 in (size, int.from_bytes(data[:4], "big")) else nib.Nifti1Image
        header = kind.header_class.from_fileobj(io.BytesIO(data))
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset = int(header.get_data_offset())
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise ValueError(f"{path} has no valid NIfTI header ({error}); is it a NIfTI image?") from None
    if len(shape) < 3 or any(not 1 <= side <= MAX_SIDE for side in shape[:3]) or any(s < 1 for s in shape[3:]):
        raise ValueError(f"{path}: size {shape} is not that of a 3-D image (each side 1 to {MAX_SIDE})")
    if dtype.names or dtype.kind not in "iufb":
        raise ValueError(f"{path}: voxels of type {dtype} are not grey values")
    if offset < len(header.binaryblock):
        raise ValueError(f"{path}: its header says that voxels begin at byte {offset}, inside the header")
    need = offset + math.prod(shape) * dtype.itemsize
    if need > MAX_BYTES:
        raise ValueError(f"{path}: its header announces {need / 2**30:.1f} GiB (at most {MAX_BYTES / 2**30:.0f})")
    if len(data) < need:
        raise ValueError(f"{path} is truncated: {len(data)} bytes of {need}; copy or download it again")
    return kind.from_bytes(data)


def _within(path: Path, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES / 2**30:.0f} GiB")
    return data


def _gunzip(path: Path) -> bytes:
    """All of a gzip file, with CRC and length checked, at most MAX_BYTES of output."""
    packed, parts, total = path.read_bytes(), [], 0
    try:
        while packed:
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(packed, MAX_BYTES - total + 1))
            total += len(parts[-1])
            if total > MAX_BYTES:
                raise ValueError(f"{path} unpacks to more than {MAX_BYTES / 2**30:.0f} GiB")
            if not unpacker.eof:
                raise ValueError(f"{path} is truncated (the gzip stream does not end); copy or download it again")
            packed = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise ValueError(f"{path} is damaged (gzip: {error}); copy or download it again") from None
    return b"".join(parts)


def _affine(image: nib.Nifti1Image, path: Path, assume: str | None) -> tuple[Float[np.ndarray, "4 4"], str]:
    """The affine to believe and a sentence about it."""
    header = image.header
    zooms = np.array([float(length) for length in header.get_zooms()[:3]])
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise ValueError(f"{path}: voxel sizes {zooms.tolist()} are not positive lengths")
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        if assume is None:
            raise ValueError(
                f"{path}: both orientation codes are 0, so left and right are unknown; "
                "if you know the axes say so, for example --assume-orientation RAS"
            )
        try:
            turn = nib.orientations.inv_ornt_aff(axcodes2ornt(tuple(assume.upper())), image.shape[:3])
        except (ValueError, KeyError):
            raise ValueError(f"--assume-orientation {assume!r}: expected three axis codes such as RAS or LPI") from None
        affine = np.linalg.inv(turn)
        affine[:3, :3] = affine[:3, :3] @ np.diag(zooms)
        return affine, f"orientation {assume.upper()} assumed (both codes 0), world origin unknown"
    affine = np.asarray(image.affine, float)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (lengths < 1e-3).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.1:
        raise ValueError(f"{path}: its affine is degenerate; repair the header or give --assume-orientation")
    unit = {"meter": 1e3, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)
    if unit != 1.0:
        affine[:3] *= unit
    cosines = (affine[:3, :3] / (lengths * unit)).T @ (affine[:3, :3] / (lengths * unit)) - np.eye(3)
    sheared = ", sheared" if np.abs(cosines).max() > SHEAR_TOLERANCE else ""
    return affine, f"affine from {'sform' if codes[0] else 'qform'} (codes {codes[0]}, {codes[1]}){sheared}"


def _voxels(image: nib.Nifti1Image, path: Path, volume: int | None) -> Float[np.ndarray, "a b c"]:
    shape = image.shape
    count = math.prod(shape[3:])
    if volume is None and count > 1:
        raise ValueError(f"{path} holds {count} volumes; say which one (volume=0 to {count - 1})")
    if volume is not None and not 0 <= volume < count:
        raise ValueError(f"{path} holds {count} volumes, there is no volume {volume}")
    array = np.asanyarray(image.dataobj).reshape(*shape[:3], count, order="F")[..., volume or 0]
    return np.ascontiguousarray(array, dtype=np.float32)


def _contrast_in_name(path: Path) -> str:
    suffix = path.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
    return suffix if suffix in ("T1w", "T1ce", "T2w", "FLAIR", "PDw", "T2starw") else "unknown"
