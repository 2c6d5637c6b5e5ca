"""Slices on disk. This is the only file that knows the format; docs/corpus.md shows it to a stranger.

A corpus folder holds

- `shard-00000.npy`, ...: a one-dimensional float16 array each: the foreground boxes of its slices, row-major, one
  after the other. Everything outside the box of a slice has the recipe's background value. A slice with neighbours
  has its channels in a row, cut to one box that holds the foreground of all of them.
- `index.npy`: one row per slice (`SLICE`), in the order of the shards.
- `scans.tsv`: one row per scan, `quarantine.tsv`: scans left out, with the reason.
- `thumbnails.npy`: one small picture per scan (see `audit`), `overlaps.tsv`: who seems to be in it twice.
- `record.json`: hash of every file, the recipe, the sources.

While a corpus is being built, `parts/00000.npz` says of each written shard what the index will say of it.
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from isal.isal_zlib import crc32
from jaxtyping import Float32, Int, Shaped, UInt8, UInt16

from braindino.config import from_dict
from braindino.record import RECORD, fingerprint, read_record, read_table, sha256, write_array, write_bytes, write_table
from braindino.volume.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

SLICE = np.dtype(
    [
        ("scan", "<u4"),  # row of scans.tsv
        ("shard", "<u4"),
        ("offset", "<u8"),  # of the box in its shard, in values
        ("top", "<u2"),
        ("left", "<u2"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("crc32", "<u4"),  # of the bytes of the box
        ("position_mm", "<f4"),
        ("brain_share", "<f4"),
        ("slice_hash", "<u8"),  # first 8 bytes of the SHA-256 of the whole float16 slice, all channels
    ]
)
IDENTITY = ("cohort", "subject", "session", "site", "contrast")
SCAN_TEXT = (*IDENTITY, "sex", "axes", "voxel_hash")
QUARANTINE_COLUMNS = ("cohort", "subject", "session", "contrast", "path", "reason")
NOTHING: Any = -0.0
"""x + -0 = x for every x, -0 too (+0 would turn -0 into 0)."""
INDEX = -1
_ROW = struct.Struct("<IIQHHHHIffQ")


@dataclass(frozen=True)
class Corpus:
    """A committed corpus, opened for random reading: a slice costs two `pread`, no memory is mapped."""

    folder: Path
    recipe: Recipe
    scans: pd.DataFrame
    """One row per scan: identity, spacing_mm by axis, axes, brain_ml, first (slice), slices, voxel_hash."""
    fingerprint: str

    def __len__(self) -> int:
        return int(self.scans["slices"].sum())

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """For another process: no open files, nothing that was made on demand."""
        return type(self), (self.folder.absolute(), self.recipe, self.scans, self.fingerprint)

    def read(self, slice_index: int) -> Float32[np.ndarray, "channel row column"]:
        """One slice as float32, normalised by the recipe; its bytes are checked against their CRC-32.

        It has `recipe.channels` channels, the slice itself in the middle.

        Raises:
            ValueError: no such slice, or its bytes changed since they were written.
        """
        channels, side, background, count, files = self._constants
        if not 0 <= slice_index < count:
            raise ValueError(f"no slice {slice_index}; {self.folder} holds slices 0 to {count - 1}")
        _, shard, offset, top, left, height, width, crc, *_ = files.row(slice_index)
        data = files.box(shard, offset, 2 * channels * height * width)
        if crc32(data) != crc:
            raise ValueError(
                f"slice {slice_index} in {self.folder / shard_name(shard)} differs from its record; "
                f"delete {self.folder} and make it again"
            )
        if not data:
            return np.full((channels, side, side), background, np.float32)
        boxes = np.frombuffer(data, "<f2").reshape(channels * height, width)
        exact = cv2.add(boxes, NOTHING, dtype=cv2.CV_32F)  # the fastest exact float16 to float32
        around = top, side - top - height, left, side - left - width
        picture = np.empty((channels, side, side), np.float32)
        for n in range(channels):
            box = exact[n * height : (n + 1) * height]
            cv2.copyMakeBorder(box, *around, cv2.BORDER_CONSTANT, dst=picture[n], value=background)
        return picture

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per slice: shard, identity of the scan, position_mm, brain_share, slice_hash; made on demand."""
        import pandas as pd

        rows = self.rows()
        columns: dict[str, Any] = {"shard": rows["shard"].astype(np.int64)}
        columns |= {name: self.scans[name].to_numpy()[rows["scan"]] for name in IDENTITY}
        columns["position_mm"] = rows["position_mm"].astype(float).round(3)
        columns["brain_share"] = rows["brain_share"].astype(float).round(4)
        digits = rows["slice_hash"].astype(">u8").tobytes().hex()
        columns["slice_hash"] = [digits[n : n + 16] for n in range(0, len(digits), 16)]
        return pd.DataFrame(columns)

    @cached_property
    def overlaps(self) -> pd.DataFrame:
        """Pairs of names that may be one person (see `audit.overlaps`)."""
        table: pd.DataFrame = read_table(self.folder / "overlaps.tsv", text=("subject", "other", "place", "evidence"))
        return table

    def rows(self) -> Shaped[np.ndarray, " slice"]:
        """The index as it is stored (fields as in `SLICE`), memory-mapped."""
        return np.asarray(np.load(self.folder / "index.npy", mmap_mode="r", allow_pickle=False))

    @cached_property
    def slices_of_subject(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Cohort and subject ("cohort/subject") to the numbers of its slices."""
        found: dict[str, list[np.ndarray]] = {}
        for name, first, count in zip(self.names, self.scans["first"], self.scans["slices"], strict=True):
            found.setdefault(name, []).append(np.arange(first, first + count))
        return {name: np.concatenate(parts) for name, parts in sorted(found.items())}

    @property
    def names(self) -> list[str]:
        """Subject of each scan, as "cohort/subject"."""
        return [f"{cohort}/{subject}" for cohort, subject in self.scans[["cohort", "subject"]].to_numpy(str)]

    def thumbnails(self) -> UInt8[np.ndarray, "scan r a s"]:
        """One small picture per scan, for `audit`."""
        return np.asarray(np.load(self.folder / "thumbnails.npy", allow_pickle=False))

    @cached_property
    def _constants(self) -> tuple[int, int, float, int, _Files]:
        background = float(np.float16(self.recipe.background))
        return self.recipe.channels, self.recipe.size_px, background, len(self), _Files(self.folder)


class _Files:
    """Open file descriptors of a corpus; safe to share between threads and forks, since `pread` has no position."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[int, tuple[int, int]] = {}
        """Descriptor and place of the first value: of the shards by number, of the index as `INDEX`."""
        self.lock = threading.Lock()

    def __del__(self) -> None:
        for descriptor, _ in self.open.values():
            os.close(descriptor)

    def row(self, number: int) -> tuple[Any, ...]:
        """The index row of a slice."""
        descriptor, start = self.open.get(INDEX) or self._opened(INDEX, "index.npy")
        return _ROW.unpack(os.pread(descriptor, _ROW.size, start + number * _ROW.size))

    def box(self, shard: int, offset: int, size: int) -> bytes:
        """The bytes of a box."""
        descriptor, start = self.open.get(shard) or self._opened(shard, shard_name(shard))
        return os.pread(descriptor, size, start + 2 * offset)

    def _opened(self, key: int, name: str) -> tuple[int, int]:
        """Descriptor of a `.npy` file and the place of its first value."""
        with self.lock:
            if key not in self.open:
                descriptor = _descriptor(self.folder / name)
                head = io.BytesIO(os.pread(descriptor, 4096, 0))
                np.lib.format.read_magic(head)
                np.lib.format.read_array_header_1_0(head)
                self.open[key] = descriptor, head.tell()
        return self.open[key]


def _descriptor(path: Path) -> int:
    """Open for reading; a corpus of thousands of shards needs more files than the usual soft limit of 1024."""
    import resource

    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == hard:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return os.open(path, os.O_RDONLY)


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus: sizes of all files and hashes of all but the shards are checked against the record.

    A shard of a large corpus is checked slice by slice as it is read; `braindino check` hashes shards as a whole.

    Raises:
        ValueError: not a finished corpus, or a file that differs from its record.
    """
    folder = Path(folder)
    record = read_record(folder, "prepare", verify=False)
    for name, known in record["files"].items():
        file = folder / name
        intact = file.is_file() and file.stat().st_size == known["size"]
        if not intact or (not name.startswith("shard-") and sha256(file) != known["sha256"]):
            raise ValueError(f"{file} is missing or differs from its record; delete {folder} and make it again")
    if "index.npy" not in record["files"]:
        raise ValueError(f"{folder / RECORD} is of an older format; delete {folder} and make it again")
    recipe = from_dict(record["config"]["recipe"], Recipe)
    return Corpus(folder, recipe, read_table(folder / "scans.tsv", text=SCAN_TEXT), fingerprint(record))


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"shard-{number:05d}.npy"


def pack(
    pictures: Float32[np.ndarray, "slice channel row column"], background: float
) -> tuple[UInt16[np.ndarray, " value"], Shaped[np.ndarray, " slice"]]:
    """Float16 slices cut to their foreground boxes (as their bits), and an index row each (offset from 0).

    The box, one for all channels of a slice, holds every value whose float16 bits differ from those of `background`,
    so nothing is lost.
    """
    codes = pictures.astype("<f2").view("<u2")
    outside = np.array(background, "<f2").view("<u2")
    rows = np.zeros(len(codes), SLICE)
    boxes, offset = [np.zeros(0, "<u2")], 0
    for row, code in zip(rows, codes, strict=True):
        inside = (code != outside).any(axis=0)
        down, across = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if len(down):
            row["top"], row["left"] = down[0], across[0]
            row["height"], row["width"] = down[-1] - down[0] + 1, across[-1] - across[0] + 1
        box = code[:, row["top"] :, row["left"] :][:, : row["height"], : row["width"]].ravel()
        row["offset"], row["crc32"] = offset, crc32(box.tobytes())
        boxes.append(box)
        offset += box.size
    return np.concatenate(boxes), rows


def write_shard(
    folder: Path,
    number: int,
    values: UInt16[np.ndarray, " value"],
    rows: Shaped[np.ndarray, " slice"],
    thumbnails: UInt8[np.ndarray, "scan r a s"],
    scans: Sequence[dict[str, Any]],
    quarantine: Sequence[dict[str, Any]],
) -> None:
    """Write one shard and then its part: a shard counts as written once the part is there.

    Args:
        folder: of the corpus.
        number: of the shard.
        values: boxes one after the other, as the bits of float16.
        rows: of the index; `scan` counts within this shard.
        thumbnails: one per scan.
        scans: rows of `scans.tsv`.
        quarantine: rows of `quarantine.tsv`.
    """
    path = folder / shard_name(number)
    write_array(path, values.view("<f2"))
    text = {"sha256": sha256(path), "scans": list(scans), "quarantine": list(quarantine)}
    buffer = io.BytesIO()
    np.savez(buffer, rows=rows, thumbnails=thumbnails, text=np.frombuffer(json.dumps(text).encode(), np.uint8))
    write_bytes(_part(folder, number), buffer.getvalue())


def is_written(folder: Path, number: int) -> bool:
    """True where shard `number` and its part are complete and the shard has the hash that it was written with."""
    if not _part(folder, number).is_file():
        return False
    path = folder / shard_name(number)
    return path.is_file() and sha256(path) == _read_part(folder, number)[2]["sha256"]


def merge_parts(folder: Path, count: int) -> None:
    """Put the parts together, in order, into index, thumbnails and the two tables."""
    import pandas as pd

    indices, thumbnails = [], []
    scans: list[dict[str, Any]] = []
    quarantine: list[dict[str, Any]] = []
    for number in range(count):
        rows, pictures, text = _read_part(folder, number)
        rows["scan"] += len(scans)
        rows["shard"] = number
        indices.append(rows)
        thumbnails.append(pictures)
        scans += text["scans"]
        quarantine += text["quarantine"]
    table = pd.DataFrame(scans)
    if len(table):
        table.insert(len(IDENTITY), "first", np.cumsum(table["slices"]) - table["slices"])
    write_array(folder / "index.npy", np.concatenate(indices))
    write_array(folder / "thumbnails.npy", np.concatenate(thumbnails))
    write_table(folder / "scans.tsv", table)
    write_table(folder / "quarantine.tsv", pd.DataFrame(quarantine, columns=QUARANTINE_COLUMNS))


def _part(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number:05d}.npz"


def _read_part(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    with np.load(_part(folder, number), allow_pickle=False) as part:
        return part["rows"], part["thumbnails"], json.loads(part["text"].tobytes())
