"""Scans to shards: every scan through the recipe, in parallel, resumable; one bad scan never stops it."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from braindino.corpus.shards import is_written, write_shard
from braindino.types import Scan
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess, slice_positions_mm, to_slices
from braindino.volume.recipe import Recipe

SCANS_PER_SHARD = 16
LEAST_BRAIN = 0.02
"""Slices with a smaller share of brain pixels are left out: there is nothing to learn on them."""


def plan(scans: Sequence[Scan]) -> list[tuple[Scan, ...]]:
    """Scans in a fixed order (cohort, subject, session, contrast), cut into shards of `SCANS_PER_SHARD`."""
    ordered = sorted(scans, key=lambda s: (s.cohort, s.subject, s.session, s.contrast, str(s.path)))
    return [tuple(ordered[n : n + SCANS_PER_SHARD]) for n in range(0, len(ordered), SCANS_PER_SHARD)]


def build_shards(
    folder: Path, shards: Sequence[Sequence[Scan]], recipe: Recipe, workers: int, assume_orientation: str | None
) -> Iterator[int]:
    """Write every shard that is not there yet; yields the number of scans of each shard as it is finished."""
    todo = []
    for number, scans in enumerate(shards):
        if is_written(folder, number):
            yield len(scans)
        else:
            todo.append((folder, number, tuple(scans), recipe, assume_orientation))
    if workers <= 1 or len(todo) <= 1:
        for job in todo:
            yield _build_shard(*job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
        futures = [pool.submit(_build_shard, *job) for job in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _build_shard(
    folder: Path, number: int, scans: tuple[Scan, ...], recipe: Recipe, assume_orientation: str | None
) -> int:
    images: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    quarantine: list[dict[str, Any]] = []
    for scan in scans:
        try:
            pictures, facts = _slices(scan, recipe, assume_orientation)
        except (ValueError, OSError, MemoryError) as error:
            quarantine.append({**_identity(scan), "path": scan.path.name, "reason": str(error)})
            continue
        start = sum(len(block) for block in images)
        images.append(pictures)
        for offset, fact in enumerate(facts):
            rows.append({"shard": number, "row": start + offset, **_identity(scan), "site": scan.site, **fact})
    stacked = np.concatenate(images) if images else np.zeros((0, recipe.size_px, recipe.size_px), np.float32)
    write_shard(folder, number, stacked, rows, quarantine)
    return len(scans)


def _slices(scan: Scan, recipe: Recipe, assume_orientation: str | None) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The slices of one scan that hold enough brain, and what the index says of each."""
    volume = read_case([replace(scan, label_map=None)], assume_orientation=assume_orientation)
    prepared = preprocess(volume, recipe)
    assert prepared.brain_mask is not None
    share = prepared.brain_mask.mean(axis=(0, 1))
    pictures = to_slices(prepared.voxels)[:, 0]
    positions = slice_positions_mm(prepared)
    kept, facts, seen = [], [], set()
    for number in np.flatnonzero(share >= LEAST_BRAIN):
        name = hashlib.sha256(pictures[number].astype("<f2").tobytes()).hexdigest()[:16]
        if name in seen:
            continue
        seen.add(name)
        kept.append(pictures[number])
        facts.append(
            {
                "position_mm": round(float(positions[number]), 3),
                "brain_share": round(float(share[number]), 4),
                "slice_hash": name,
            }
        )
    if not kept:
        raise ValueError(f"no slice with at least {LEAST_BRAIN:.0%} of brain")
    return np.stack(kept), facts


def _identity(scan: Scan) -> dict[str, str]:
    return {"cohort": scan.cohort, "subject": scan.subject, "session": scan.session, "contrast": scan.contrast}
