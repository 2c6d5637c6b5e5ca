"""Who is in it twice: the same person under two names, within a corpus or in a corpus and a test cohort.

Four kinds of evidence, the strongest first: the same subject name, the same person by a crosswalk table, the same
voxels after reorientation (`voxel_hash`), and thumbnails that resemble each other more than two people's do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float16, Float32

from braindino.record import read_table
from braindino.types import Volume

if TYPE_CHECKING:
    import pandas as pd

CELL_MM = 10.0
THUMBNAIL = (16, 19, 12)
"""Cells of a thumbnail along Right, Anterior, Superior: 160 x 190 x 120 mm of brain below the vertex."""
NEAR = 0.87
"""Thumbnails that correlate at least so much are taken for one person's (benchmarks/audit_recall.py)."""
BLOCK = 2048
OVERLAP_COLUMNS = ("subject", "other", "place", "evidence", "similarity")


class LeakageError(ValueError):
    """A subject of a test cohort is in the corpus, and nobody has acknowledged it."""


def voxel_hash(volume: Volume) -> str:
    """First 16 hexadecimal digits of the SHA-256 over shape and float32 voxels in RAS.

    Equal for equal images whatever the file's name, compression, data type or order of axes.
    """
    found = hashlib.sha256(str(volume.voxels.shape).encode())
    found.update(np.ascontiguousarray(volume.voxels, "<f4").tobytes())
    return found.hexdigest()[:16]


def thumbnail(volume: Volume) -> Float16[np.ndarray, "r a s"]:
    """The brain (first contrast, inside `brain_mask`) in cells of 10 mm, as ranks: a dot product is a correlation.

    Cells hang from the top of the brain mask and are centred in the plane on its upper 100 mm, so that a field of
    view cut from below, or another grid, changes little. A cell's value is the mean intensity of its brain voxels;
    cells with brain in less than half of them are 0, the others are replaced by their ranks (any monotone change of
    intensities is without effect), centred and divided by their norm.
    """
    mask = volume.brain_mask
    assert mask is not None
    weights = _cells(mask, volume.spacing_mm)
    held = _reduce(mask.astype(np.float32), weights)
    total = _reduce(np.where(mask, volume.voxels[0], 0).astype(np.float32), weights)
    inside = held > 0.5 * CELL_MM**3 / float(np.prod(volume.spacing_mm))
    picture = np.zeros(THUMBNAIL)
    if inside.sum() > 1:
        ranks = (total[inside] / held[inside]).argsort(kind="stable").argsort(kind="stable").astype(float)
        picture[inside] = (ranks - ranks.mean()) / np.linalg.norm(ranks - ranks.mean())
    return picture.astype(np.float16)


def _cells(mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]) -> list[np.ndarray]:
    """One matrix (cell, voxel) per axis: the share of each voxel that lies in each cell."""
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1]) + 1
    upper = mask[:, :, max(0, top - round(100 / spacing_mm[2])) : top]
    centre = [float(np.average(np.arange(n) + 0.5, weights=upper.sum(axis=axes))) for n, axes in _planes(upper)]
    starts = [c - cells * CELL_MM / mm / 2 for c, cells, mm in zip(centre, THUMBNAIL, spacing_mm, strict=False)]
    starts.append(top - THUMBNAIL[2] * CELL_MM / spacing_mm[2])
    weights = []
    for start, cells, size, mm in zip(starts, THUMBNAIL, mask.shape, spacing_mm, strict=True):
        edges = start + np.arange(cells + 1)[:, None] * CELL_MM / mm
        voxels = np.arange(size)
        weights.append(np.clip(np.minimum(edges[1:], voxels + 1) - np.maximum(edges[:-1], voxels), 0, None))
    return [matrix.astype(np.float32) for matrix in weights]


def _planes(mask: Bool[np.ndarray, "i j k"]) -> list[tuple[int, tuple[int, int]]]:
    return [(mask.shape[0], (1, 2)), (mask.shape[1], (0, 2))]


def _reduce(image: Float32[np.ndarray, "i j k"], weights: Sequence[np.ndarray]) -> Float32[np.ndarray, "r a s"]:
    along = image @ weights[2].T
    return np.asarray(np.einsum("ijc,bj,ai->abc", along, weights[1], weights[0], optimize=True), np.float32)


def overlaps(
    mine: pd.DataFrame,
    pictures: Float16[np.ndarray, "mine i j k"],
    others: pd.DataFrame | None = None,
    other_pictures: Float16[np.ndarray, "other i j k"] | None = None,
    *,
    place: str = "corpus",
    crosswalk: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Pairs of subjects who seem to be one person, each pair once with its strongest evidence.

    Args:
        mine: rows of a corpus's `scans.tsv` (cohort, subject, voxel_hash).
        pictures: their thumbnails.
        others: the same of a test cohort; None looks within `mine`, where an equal name is no finding.
        other_pictures: their thumbnails.
        place: what the table calls the others.
        crosswalk: pairs of names ("cohort/subject") known to be one person, in either order.

    Returns:
        Columns `OVERLAP_COLUMNS`: subject and other ("cohort/subject"), place, evidence ("same name", "crosswalk",
        "same voxels", "near"), similarity (correlation of the thumbnails where it was compared).
    """
    import pandas as pd

    within = others is None
    others = mine if others is None else others
    second = pictures if other_pictures is None else other_pictures
    names, other_names = _names(mine), _names(others)
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for left, right, evidence, similarity in _evidence(mine, pictures, others, second, crosswalk, within):
        pair = names[left], other_names[right]
        if within:
            pair = min(pair), max(pair)
            if pair[0] == pair[1]:
                continue
        found.setdefault(pair, (evidence, similarity))
    rows = [(*pair, place, evidence, similarity) for pair, (evidence, similarity) in sorted(found.items())]
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def _names(scans: pd.DataFrame) -> list[str]:
    return [f"{cohort}/{subject}" for cohort, subject in zip(scans["cohort"], scans["subject"], strict=True)]


def _evidence(
    mine: pd.DataFrame,
    pictures: np.ndarray,
    others: pd.DataFrame,
    second: np.ndarray,
    crosswalk: Sequence[tuple[str, str]],
    within: bool,
) -> Iterator[tuple[int, int, str, float]]:
    """Findings as (row of mine, row of others, evidence, similarity), the strongest kind first."""
    names, other_names = _names(mine), _names(others)
    if not within:
        yield from _joined(names, other_names, "same name", lambda name: [name])
    same: dict[str, list[str]] = {}
    for one, two in crosswalk:
        same.setdefault(one, []).append(two)
        same.setdefault(two, []).append(one)
    yield from _joined(names, other_names, "crosswalk", lambda name: same.get(name, []))
    hashes, other_hashes = list(mine["voxel_hash"]), list(others["voxel_hash"])
    yield from _joined(hashes, other_hashes, "same voxels", lambda name: [name])
    flat, other_flat = (p.reshape(len(p), -1).astype(np.float32) for p in (pictures, second))
    for start in range(0, len(flat), BLOCK):
        first = start if within else 0
        similar = flat[start : start + BLOCK] @ other_flat[first:].T
        for left, right in zip(*np.nonzero(similar >= NEAR), strict=True):
            yield start + int(left), first + int(right), "near", round(float(similar[left, right]), 4)


def _joined(
    keys: Sequence[str], other_keys: Sequence[str], evidence: str, partners: Callable[[str], Sequence[str]]
) -> Iterator[tuple[int, int, str, float]]:
    places: dict[str, list[int]] = {}
    for row, key in enumerate(other_keys):
        places.setdefault(key, []).append(row)
    for row, key in enumerate(keys):
        for partner in partners(key):
            yield from ((row, other, evidence, float("nan")) for other in places.get(partner, ()))


def refuse_leakage(found: pd.DataFrame, acknowledged: Sequence[str]) -> None:
    """Refuse a corpus that shares subjects with a test cohort unless each of them is named in `acknowledged`.

    Raises:
        LeakageError: some are not named.
        ValueError: an acknowledged name that overlaps with nothing.
    """
    shared = found[found["place"] != "corpus"]
    strangers = sorted(set(acknowledged) - set(shared["subject"]))
    if strangers:
        raise ValueError(f"acknowledge names {strangers[0]!r}, which shares nothing with a test cohort; leave it out")
    open_ones = shared[~shared["subject"].isin(list(acknowledged))]
    if not len(open_ones):
        return
    told = [f"{row.subject} = {row.other} of {row.place} ({row.evidence})" for row in open_ones.head(3).itertuples()]
    raise LeakageError(
        f"{open_ones['subject'].nunique()} subjects of the corpus are also in a test cohort: {', '.join(told)}"
        f"{', ...' if len(open_ones) > 3 else ''}; all are listed in overlaps.tsv. Leave their scans out, or name "
        "each with --acknowledge and exclude them when pretraining"
    )


def read_crosswalk(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of names from a table with the columns `subject` and `other`, each "cohort/subject".

    Raises:
        ValueError: no such table, or columns are missing.
    """
    table = read_table(path, text=("subject", "other"))
    if not {"subject", "other"} <= set(table.columns):
        raise ValueError(
            f"{path} needs the columns subject and other (names as cohort/subject); it has {', '.join(table.columns)}"
        )
    return tuple(zip(table["subject"], table["other"], strict=True))
