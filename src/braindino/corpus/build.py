"""Scans to shards: every scan through the recipe, in parallel, resumable; one bad scan never stops it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from braindino.corpus.audit import voxel_hash
from braindino.corpus.jobs import run_jobs
from braindino.corpus.shards import is_written, pack, write_shard
from braindino.corpus.thumbnail import THUMBNAIL, thumbnail
from braindino.types import Scan, Volume
from braindino.volume.brain import brain_mask
from braindino.volume.choose import distinct
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess, slice_positions_mm, to_slices
from braindino.volume.quality import Quality
from braindino.volume.recipe import Recipe

SCANS_PER_SHARD = 16
LEAST_BRAIN = 0.02
"""Slices with a smaller share of brain pixels are left out: there is nothing to learn on them."""


def plan(scans: Sequence[Scan]) -> list[tuple[Scan, ...]]:
    """Scans in a fixed order (cohort, subject, session, contrast), cut into shards of `SCANS_PER_SHARD`."""
    ordered = sorted(scans, key=lambda s: (s.cohort, s.subject, s.session, s.contrast, str(s.path)))
    return [tuple(ordered[n : n + SCANS_PER_SHARD]) for n in range(0, len(ordered), SCANS_PER_SHARD)]


def build_shards(
    folder: Path,
    shards: Sequence[Sequence[Scan]],
    recipe: Recipe,
    workers: int,
    assume_orientation: str | None,
    cluster: str | None = None,
) -> Iterator[int]:
    """Write every shard that is not there yet; yields the number of scans of each shard as it is finished."""
    todo = []
    for number, scans in enumerate(shards):
        if is_written(folder, number):
            yield len(scans)
        else:
            todo.append((folder.absolute(), number, tuple(map(_absolute, scans)), recipe, assume_orientation))
    for _, count in run_jobs(_build_shard, todo, workers, cluster):
        yield count


def fingerprints(
    scans: Sequence[Scan], extractor: str, workers: int, assume_orientation: str | None, cluster: str | None = None
) -> Iterator[tuple[dict[str, Any], UInt8[np.ndarray, "r a s"]] | None]:
    """Identity with voxel hash, and thumbnail of each scan, in any order; None where it cannot be read."""
    jobs = [(_absolute(scan), assume_orientation, extractor) for scan in scans]
    yield from (result for _, result in run_jobs(_fingerprint, jobs, workers, cluster))


def _fingerprint(
    scan: Scan, assume_orientation: str | None, extractor: str
) -> tuple[dict[str, Any], np.ndarray] | None:
    try:
        volume = _read(scan, assume_orientation, extractor)
        return {**_identity(scan), "voxel_hash": voxel_hash(volume)}, thumbnail(volume)
    except (ValueError, OSError, MemoryError):
        return None


def _read(scan: Scan, assume_orientation: str | None, extractor: str) -> Volume:
    """A scan with its brain mask, which is looked for only once."""
    volume = read_case([replace(scan, label_map=None)], assume_orientation=assume_orientation)
    return replace(volume, brain_mask=brain_mask(volume, extractor)[0])


def _facts(scan: Scan, volume: Volume, found: Quality) -> dict[str, Any]:
    """The row of `scans.tsv`: who it is, `quality` as it was read, axis codes before the turn to RAS, voxel hash."""
    turned = [told[1] for line in volume.history if (told := re.match(r"reoriented from (\w{3}) to RAS", line))]
    return {
        **_identity(scan),
        "site": scan.site,
        "age": scan.age,
        "sex": scan.sex,
        **{name: round(float(value), 4) for name, value in found.row().items()},
        "axes": turned[0] if turned else "RAS",
        "voxel_hash": voxel_hash(volume),
    }


def _build_shard(
    folder: Path, number: int, scans: tuple[Scan, ...], recipe: Recipe, assume_orientation: str | None
) -> int:
    values, rows, thumbnails = [np.zeros(0, "<u2")], [], [np.zeros((0, *THUMBNAIL), np.uint8)]
    kept: list[dict[str, Any]] = []
    quarantine: list[dict[str, Any]] = []
    for scan in scans:
        try:
            volume = _read(scan, assume_orientation, recipe.brain_extractor)
            prepared = preprocess(volume, recipe)
            pictures, told = _slices(prepared, recipe)
            assert prepared.quality is not None
            facts, small = _facts(scan, volume, prepared.quality), thumbnail(volume)
        except (ValueError, OSError, MemoryError) as error:
            quarantine.append({**_identity(scan), "path": scan.path.name, "reason": str(error)})
            continue
        boxes, index = pack(pictures, recipe.background)
        for name in told.dtype.names or ():
            index[name] = told[name]
        index["scan"] = len(kept)
        index["offset"] += sum(block.size for block in values)
        values.append(boxes)
        rows.append(index)
        thumbnails.append(small[None])
        kept.append({**facts, "slices": len(index)})
    table = np.concatenate(rows) if rows else pack(np.zeros((0, 1, 1, 1), np.float32), 0.0)[1]
    write_shard(folder, number, np.concatenate(values), table, np.concatenate(thumbnails), kept, quarantine)
    return len(scans)


TOLD = np.dtype([("position_mm", "<f4"), ("brain_share", "<f4"), ("slice_hash", "<u8")])


def _slices(
    prepared: Volume, recipe: Recipe
) -> tuple[Float32[np.ndarray, "slice channel row column"], Shaped[np.ndarray, " slice"]]:
    """The slices of a prepared scan that hold enough brain, no near-duplicates, and what the index says of them."""
    assert prepared.brain_mask is not None
    share = prepared.brain_mask.mean(axis=(0, 1))
    pictures = to_slices(prepared.voxels)
    positions = slice_positions_mm(prepared)
    kept: dict[bytes, int] = {}
    for number in np.flatnonzero((share >= LEAST_BRAIN) & distinct(prepared, recipe)):
        name = hashlib.sha256(pictures[number].astype("<f2").tobytes()).digest()[:8]
        kept.setdefault(name, int(number))
    if not kept:
        raise ValueError(f"no slice with at least {LEAST_BRAIN:.0%} of brain")
    numbers = list(kept.values())
    told = np.zeros(len(numbers), TOLD)
    told["position_mm"], told["brain_share"] = positions[numbers], share[numbers]
    told["slice_hash"] = [int.from_bytes(name, "big") for name in kept]
    return pictures[numbers], told


def _absolute(scan: Scan) -> Scan:
    """The scan as other processes find it, whose working folder may be another one."""
    mask = scan.brain_mask.absolute() if scan.brain_mask else None
    return replace(scan, path=scan.path.absolute(), brain_mask=mask)


def _identity(scan: Scan) -> dict[str, str]:
    return {"cohort": scan.cohort, "subject": scan.subject, "session": scan.session, "contrast": scan.contrast}
