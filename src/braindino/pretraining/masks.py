"""Which patches are hidden from the student: blocks of random shape, in exact numbers (numpy only)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

SMALLEST = 4
"""Patches in the smallest block, where so many are left to mask."""
TRIES = 10
"""Attempts to place a block before giving up."""
LOG_ASPECT = math.log(1 / 0.3)
"""Blocks are from 0.3 to 1 / 0.3 times as high as wide, uniform in the logarithm."""


def sample_masks(
    rng: np.random.Generator,
    images: int,
    grid: tuple[int, int],
    *,
    probability: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
    chosen: Sequence[int] | None = None,
) -> Bool[np.ndarray, "chosen patch"]:
    """Patch masks of a batch of global crops; True = hidden (arXiv 2111.07832; counts as in DINOv3).

    m = int(images * probability) images are masked. The i-th of them, i = 1 .. m, hides exactly
    int(patches * (low + i (high - low) / m)) patches; then the images are shuffled.

    Args:
        rng: the only source of chance.
        images: number of global crops.
        grid: rows and columns of patches.
        probability: share of masked images, in [0, 1].
        ratio: low and high share of hidden patches, 0 <= low <= high <= 1.
        chosen: images whose masks are wanted, for a rank that holds a part of the batch; None: all. The mask of an
            image does not depend on which others are chosen.

    Raises:
        ValueError: a share outside its range.
    """
    low, high = ratio
    if not 0 <= probability <= 1 or not 0 <= low <= high <= 1:
        raise ValueError(f"need 0 <= probability <= 1 and 0 <= low <= high <= 1, got {probability} and {ratio}")
    patches = grid[0] * grid[1]
    counts = np.zeros(images, int)
    masked = int(images * probability)
    counts[:masked] = [int(patches * share) for share in np.linspace(low, high, masked + 1)[1:]]
    counts, seeds = rng.permutation(counts), rng.integers(2**63, size=images)
    wanted = range(images) if chosen is None else chosen
    masks = [sample_mask(np.random.default_rng(seeds[n]), grid, int(counts[n])) for n in wanted]
    return np.stack(masks) if masks else np.zeros((0, patches), bool)


def sample_mask(rng: np.random.Generator, grid: tuple[int, int], count: int) -> Bool[np.ndarray, " patch"]:
    """One mask with exactly `count` hidden patches: random blocks, then single patches for the rest.

    Blocks of at most half of all patches are placed until `count` is reached or `TRIES` attempts in a row fail.
    """
    mask = np.zeros(grid, dtype=bool)
    largest = mask.size // 2
    while (missing := count - int(mask.sum())) > 0:
        if not _add_block(rng, mask, min(missing, largest)):
            break
    flat = mask.reshape(-1)
    flat[rng.choice(np.flatnonzero(~flat), max(missing, 0), replace=False)] = True
    return flat


def _add_block(rng: np.random.Generator, mask: Bool[np.ndarray, "row column"], limit: int) -> bool:
    """Hide a random block that adds 1 to `limit` patches to `mask`, in place; False if no attempt fits."""
    rows, columns = mask.shape
    for _ in range(TRIES):
        area = rng.uniform(min(SMALLEST, limit), max(SMALLEST, limit))
        aspect = math.exp(rng.uniform(-LOG_ASPECT, LOG_ASPECT))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= rows or width >= columns:
            continue
        top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - int(block.sum()) <= limit:
            block[:] = True
            return True
    return False
