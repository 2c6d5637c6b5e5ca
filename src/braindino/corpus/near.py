"""Which scans of two different names show one brain: a quick look at all pairs, then a close one at the likeliest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from braindino.corpus.jobs import run_jobs
from braindino.corpus.thumbnail import coarse, resemblance

NEAR = 0.93
"""Brains whose `resemblance` is at least this are taken for one person's (benchmarks/audit_recall.py)."""
CANDIDATES = 8
"""Each scan is looked at closely with its likeliest scan of so many other subjects, those of `LIKELY` or more."""
LIKELY = 0.5
SHIFTS = (-2, 0, 2)
"""Cells by which a brain is also moved up or down for the quick look: masks differ most in where they end."""
BLOCK = 512
PAIRS_PER_JOB = 64


def near(
    names: Sequence[str],
    pictures: UInt8[np.ndarray, "mine r a s"],
    other_names: Sequence[str],
    other_pictures: UInt8[np.ndarray, "other r a s"],
    *,
    workers: int = 1,
    cluster: str | None = None,
) -> list[tuple[int, int, float]]:
    """Pairs (row, other row, resemblance) of different names that resemble each other by `NEAR` or more, best first.

    Args:
        names: whom each of `pictures` shows.
        pictures: thumbnails.
        other_names: the same of those to compare with; may be the very same arrays.
        other_pictures: their thumbnails.
        workers: processes for the close look, as in `run_jobs`.
        cluster: address of a Dask scheduler instead.
    """
    pairs = sorted(set(_candidates(names, pictures, other_names, other_pictures)))
    if other_pictures is pictures:
        pairs = sorted({(min(pair), max(pair)) for pair in pairs})
    chunks = [np.array(pairs[n : n + PAIRS_PER_JOB]) for n in range(0, len(pairs), PAIRS_PER_JOB)]
    jobs = [(pictures[rows[:, 0]], other_pictures[rows[:, 1]]) for rows in chunks]
    found = []
    for number, values in run_jobs(_resemblances, jobs, workers, cluster) if jobs else ():
        found += [(*map(int, pair), value) for pair, value in zip(chunks[number], values, strict=True) if value >= NEAR]
    return sorted(found, key=lambda pair: (-pair[2], pair))


def _resemblances(left: UInt8[np.ndarray, "n r a s"], right: UInt8[np.ndarray, "n r a s"]) -> list[float]:
    return [resemblance(one, two) for one, two in zip(left, right, strict=True)]


def _candidates(
    names: Sequence[str], pictures: np.ndarray, other_names: Sequence[str], other_pictures: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Every scan with its likeliest scan of each of the `CANDIDATES` likeliest other subjects, as rows."""
    if not len(names) or not len(other_names):
        return
    order = np.argsort(other_names, kind="stable")
    subjects, starts = np.unique(np.asarray(other_names)[order], return_index=True)
    ends = [*starts[1:], len(order)]
    number = {str(name): n for n, name in enumerate(subjects)}
    others = np.stack([coarse(other_pictures[row]) for row in order])
    for first in range(0, len(names), BLOCK):
        similar = _likeness(pictures[first : first + BLOCK], others)
        best = np.maximum.reduceat(similar, starts, axis=1)
        for row, name in enumerate(names[first : first + BLOCK]):
            if name in number:
                best[row, number[name]] = -1
            for subject in np.argsort(-best[row], kind="stable")[:CANDIDATES]:
                if best[row, subject] >= LIKELY:
                    start = starts[subject]
                    yield first + row, int(order[start + np.argmax(similar[row, start : ends[subject]])])


def _likeness(pictures: UInt8[np.ndarray, "n r a s"], others: Float32[np.ndarray, "m c"]) -> Float32[np.ndarray, "n m"]:
    """The largest correlation over `SHIFTS` of each picture with each of the others."""
    found = np.full((len(pictures), len(others)), -1, np.float32)
    for shift in SHIFTS:
        moved = np.zeros_like(pictures)
        high = slice(max(shift, 0), shift if shift < 0 else None)
        low = slice(max(-shift, 0), -shift if shift > 0 else None)
        moved[..., high] = pictures[..., low]
        np.maximum(found, np.stack([coarse(picture) for picture in moved]) @ others.T, out=found)
    return found
