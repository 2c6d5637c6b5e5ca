"""The bytes of one image file, verified before any voxel is touched: NIfTI-1/2, one file or a pair, and Analyze pairs.

A `.gz` has a CRC that no slice-wise reader checks: here whole members are always decompressed and checked, with a byte
budget taken from the header, and the header is checked before anything of its announced size is allocated.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from jaxtyping import Float, Shaped
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spm99analyze import Spm99AnalyzeHeader
from nibabel.volumeutils import apply_read_scaling

MAX_BYTES = 2 << 30
"""Largest uncompressed file that is read (2 GiB): 256^3 float32 is 64 MiB, a 0.4 mm head about 0.5 GiB."""
MAX_SIDE = 2048
MAX_RATIO = 1032
"""Deflate cannot pack better than this; a header that announces more than this lies."""
BOMB_BYTES, BOMB_RATIO = 256 << 20, 500
"""Over 256 MiB, an image that packs better than 500 to 1 is refused unread: it is empty, or made to fill memory."""
HEADER_BYTES = 544
"""Enough of a file for every header that is read (NIfTI-2: 540 bytes and the extension flag)."""
SLACK_BYTES = 1 << 16
"""Bytes after the last voxel that are let pass (padding that some writers leave)."""
QUIET = logging.Logger("braindino.volume", logging.CRITICAL)
"""nibabel's remarks go into the history, not to the terminal."""
GZIP_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]
"""isal reads what zlib reads, with the same checks, twice as fast."""
ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")


@dataclass(frozen=True)
class Stored:
    """A header and the verified bytes that it describes."""

    kind: str
    """NIfTI-1, NIfTI-2 or Analyze."""
    header: Any
    """nibabel's header, in the byte order of the file."""
    shape: tuple[int, ...]
    data: bytes
    """The whole file that holds the voxels, decompressed."""
    offset: int
    repairs: tuple[str, ...] = ()
    """What nibabel found wrong with the header and put right (negative voxel sizes, for instance)."""

    @property
    def zooms_mm(self) -> Float[np.ndarray, " 3"]:
        """Voxel sizes of the header in its own unit (millimetres but for NIfTI files that say otherwise)."""
        return np.array([float(length) for length in self.header.get_zooms()[:3]])

    def voxels(self, volume: int) -> Shaped[np.ndarray, "a b c"]:
        """One 3-D image, scaled by slope and intercept where the header has them.

        A `scl_slope` of 0, NaN or infinity means no scaling, as in nibabel and SimpleITK.
        """
        count = math.prod(self.shape[:3])
        dtype = self.header.get_data_dtype()
        start = self.offset + volume * count * dtype.itemsize
        raw = np.frombuffer(self.data, dtype, count, start).reshape(self.shape[:3], order="F")
        slope, inter = self.header.get_slope_inter()
        return raw if slope is None else np.asarray(apply_read_scaling(raw, slope, inter or 0.0))

    def scaling(self) -> str:
        """What is done about slope and intercept, as a sentence; empty where the header asks for nothing."""
        slope, inter = self.header.get_slope_inter()
        if slope is None:
            return f"scl_slope {float(self.header['scl_slope']):g}: intensities not scaled"
        return "" if (slope, inter or 0.0) == (1.0, 0.0) else f"intensities scaled by {slope:g}, plus {inter or 0.0:g}"


def open_image(path: Path) -> Stored:
    """Header and verified bytes of `path`: `.nii`, `.nii.gz`, or either file of a `.hdr` and `.img` pair, also gzipped.

    Raises:
        ValueError: no such file, no valid header, a hostile or impossible size, a truncated or damaged file, or one
            half of a pair is missing.
    """
    if not path.is_file():
        raise ValueError(f"no such image: {path}" if not path.exists() else f"{path} is a folder, expected one image")
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{path}: expected a .nii or .nii.gz file, a .hdr/.img pair, or a folder of DICOM files")
    head, body = _pair(path)
    packed = head.read_bytes()
    kind, header, repairs = _header(head, _start(head, packed), paired=head != body)
    shape, dtype, offset = _announced(body, header, paired=head != body)
    if head != body:
        _content(head, packed, len(header.binaryblock), len(packed) + MAX_RATIO)  # a damaged .hdr.gz is damage too
        packed = body.read_bytes()
    need = offset + math.prod(shape) * dtype.itemsize
    data = _content(body, packed, need, need + SLACK_BYTES)
    return Stored(kind, header, shape, data, offset, repairs)


def stem(path: Path) -> str:
    """The file name without its image ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".hdr").removesuffix(".img")


def _pair(path: Path) -> tuple[Path, Path]:
    """Where header and voxels are; twice the same file but for pairs."""
    if path.name.endswith((".nii", ".nii.gz")):
        return path, path
    name = stem(path)
    found = []
    for ending in (".hdr", ".img"):
        options = [path.with_name(name + ending + gz) for gz in ("", ".gz")]
        options = [path] if path in options else [option for option in options if option.is_file()]
        if len(options) != 1:
            what = "is missing" if not options else "exists twice, plain and gzipped"
            raise ValueError(f"{path}: the {ending} file of the pair {name}.hdr, {name}.img {what}")
        found.append(options[0])
    return found[0], found[1]


def _start(path: Path, packed: bytes) -> bytes:
    """The first bytes of a file, decompressed, without the rest of it."""
    if not path.name.endswith(".gz"):
        return packed[:HEADER_BYTES]
    try:
        return isal_zlib.decompressobj(wbits=31).decompress(packed, HEADER_BYTES)
    except GZIP_ERROR as error:
        raise _damaged(path, error) from None


def _header(path: Path, start: bytes, *, paired: bool) -> tuple[str, Any, tuple[str, ...]]:
    """The kind of image, nibabel's header, valid by nibabel's own checks, and what these put right."""
    reader: Any
    size = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if 540 in size:
        kind, reader = "NIfTI-2", Nifti2PairHeader if paired else Nifti2Header
    elif paired and start[344:347] not in (b"ni1", b"n+1"):
        kind, reader = "Analyze", Spm99AnalyzeHeader
    else:
        kind, reader = "NIfTI-1", Nifti1PairHeader if paired else Nifti1Header
    try:
        block = start[: reader.template_dtype.itemsize]
        header = reader(block, check=False)
        found = reader.diagnose_binaryblock(block)
        header.check_fix(QUIET)
        header.get_slope_inter()
    except Exception as error:  # nibabel raises many kinds for a damaged header
        raise ValueError(f"{path} has no valid {kind.partition('-')[0]} header ({error}); is it an MR image?") from None
    return kind, header, tuple(f"warning: header repaired: {line}" for line in found.splitlines())


def _announced(path: Path, header: Any, *, paired: bool) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, voxel type and offset that the header announces, within sane bounds."""
    try:
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
    except Exception as error:  # as above, for instance a NaN offset or an unknown type code
        raise ValueError(f"{path} has no valid header ({error}); is it an MR image?") from None
    if len(shape) < 3 or any(not 1 <= side <= MAX_SIDE for side in shape[:3]) or any(s < 1 for s in shape[3:]):
        raise ValueError(f"{path}: size {shape} is not that of a 3-D image (each side 1 to {MAX_SIDE})")
    if dtype.names or dtype.kind not in "iufb":
        raise ValueError(f"{path}: voxels of type {dtype} are not grey values")
    if offset < (0 if paired else len(header.binaryblock)):
        raise ValueError(f"{path}: its header says that voxels begin at byte {offset}, inside the header")
    need = offset + math.prod(shape) * dtype.itemsize
    if need > MAX_BYTES:
        raise ValueError(f"{path}: its header announces {need / 2**30:.1f} GiB (at most {MAX_BYTES / 2**30:.0f})")
    return tuple(int(side) for side in shape), dtype, offset


def _content(path: Path, packed: bytes, need: int, most: int) -> bytes:
    """The whole file, decompressed and checked, of at least `need` and at most `most` bytes."""
    data = _gunzip(path, packed, need, most) if path.name.endswith(".gz") else packed
    if len(data) < need:
        raise ValueError(f"{path} is truncated: {len(data)} bytes of {need}; copy or download it again")
    return data


def _gunzip(path: Path, packed: bytes, need: int, most: int) -> bytes:
    """All members of a gzip file, with CRC and length checked, stopped at `most` bytes of output."""
    if need > MAX_RATIO * len(packed):
        raise ValueError(f"{path} is truncated or lies: {len(packed)} packed bytes cannot hold {need}")
    if need > BOMB_BYTES and need > BOMB_RATIO * len(packed):
        raise ValueError(f"{path}: {need} bytes packed into {len(packed)} are no image (empty, or made to fill memory)")
    parts, total = [], 0
    try:
        while packed:
            unpacker = isal_zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(packed, most - total + 1))
            total += len(parts[-1])
            if total > most:
                raise ValueError(f"{path} unpacks to more than the {need} bytes that its header announces")
            if not unpacker.eof:
                raise ValueError(f"{path} is truncated (the gzip stream does not end); copy or download it again")
            packed = unpacker.unused_data.lstrip(b"\0")
    except GZIP_ERROR as error:
        raise _damaged(path, error) from None
    return b"".join(parts)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged (gzip: {error}); copy or download it again")
