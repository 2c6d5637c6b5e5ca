"""The parts of unfinished features: one file per case, so that a killed `encode` goes on where it stopped."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from braindino.pipeline.encoding import OK, Row
from braindino.progress import note
from braindino.record import atomic, require_room, write_array, write_bytes

PARTS, PATCH = "parts", "patch"
DAMAGED = (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError)


def write_part(out: Path, number: int, row: Row) -> None:
    """Write what came of case `number`: patch tokens, if any, where they stay; then the part, which says it is done."""
    if row.patch is not None:
        write_array(patch_file(out, number), row.patch.astype("<f2", copy=False))
    text = json.dumps({"status": row.status, "missing": row.missing, "contrasts": row.contrasts})
    arrays = {"text": np.frombuffer(text.encode(), np.uint8)}
    if row.values is not None and row.position_mm is not None:
        arrays |= {"values": row.values.astype("<f2"), "position_mm": row.position_mm.astype("<f4")}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(_part_file(out, number), buffer.getvalue())


def read_part(out: Path, number: int, *, values: bool = True) -> Row:
    """What came of case `number`, without its patch tokens; without `values`, only what is said of it.

    Raises:
        ValueError: no such part, or a damaged one.
    """
    path = _part_file(out, number)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as part:
            told = json.loads(part["text"].tobytes())
            said = (str(told["status"]), tuple(told["missing"]), tuple(told["contrasts"]))
            if not values or said[0] != OK:
                return Row(*said)
            return Row(*said, part["values"], part["position_mm"])
    except DAMAGED as error:
        raise ValueError(f"{path} is missing or damaged ({error}); delete it and run the command again") from None


def is_encoded(out: Path, number: int, *, patch: bool) -> bool:
    """True where case `number` was encoded and is intact; one that failed is tried again."""
    try:
        row = read_part(out, number)
        if patch and row.status == OK:
            np.load(patch_file(out, number), mmap_mode="r", allow_pickle=False)
    except DAMAGED:
        return False
    return row.status == OK


def patch_file(out: Path, number: int) -> Path:
    """Where the patch tokens of case `number` stand."""
    return Path(out) / PATCH / f"{number:06d}.npy"


def agreed(told: Sequence[Row]) -> list[Row]:
    """The rows; those whose views differ from the first encoded one's become failures, with the reason."""
    views = next((row.contrasts for row in told if row.status == OK), ())
    reason = f"views of the contrasts {_short(views)} in the other cases, here "
    return [row if row.status != OK or row.contrasts == views else Row(reason + _short(row.contrasts)) for row in told]


def merge_parts(out: Path, told: Sequence[Row], dim: int) -> None:
    """`values.npy` and `position_mm.npy` from the parts, one case in memory at a time; failed cases are NaN."""
    views = next(len(row.contrasts) for row in told if row.status == OK)

    def rows(name: str, shape: tuple[int, ...]) -> Iterable[np.ndarray]:
        for number, row in enumerate(told):
            if row.status == OK:
                yield getattr(read_part(out, number), name)
            else:
                patch_file(out, number).unlink(missing_ok=True)
                yield np.full(shape, np.nan)

    for name, kind, shape in (("values", "<f2", (views, dim)), ("position_mm", "<f4", (views,))):
        with atomic(out / f"{name}.npy") as handle:
            header = {"descr": kind, "fortran_order": False, "shape": (len(told), *shape)}
            np.lib.format.write_array_header_1_0(handle, header)
            for array in rows(name, shape):
                handle.write(np.ascontiguousarray(array, kind).tobytes())


def drop_parts(out: Path) -> None:
    """Remove the parts of finished features."""
    shutil.rmtree(out / PARTS, ignore_errors=True)


def check_room(out: Path, row: Row, left: int) -> None:
    """Say how large the patch tokens of `left` cases like `row` are, and refuse where the disk is smaller.

    Raises:
        ValueError: not enough room; the message has both sizes.
    """
    assert row.values is not None and row.patch is not None
    views, patches, dim = row.patch.shape
    sizes = f"{left} cases x {views} views x {patches} patches x {dim} as float16"
    remedy = "take fewer --slices, --level cls, or another --out"
    note("patch tokens: " + require_room(out, left * (row.patch.nbytes + 2 * row.values.nbytes), sizes, remedy))


def _part_file(out: Path, number: int) -> Path:
    return Path(out) / PARTS / f"{number:06d}.npz"


def _short(views: tuple[str, ...]) -> str:
    return ", ".join(f"{views.count(name)} {name}" for name in dict.fromkeys(views))
