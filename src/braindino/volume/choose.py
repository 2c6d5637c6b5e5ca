"""Which slices: where along the brain they lie, and which of them say nothing new."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from braindino.types import Volume
from braindino.volume.recipe import Recipe


def slice_centres(
    first: int, last: int, spacing_mm: float, recipe: Recipe, *, every_slice: bool
) -> Float[np.ndarray, " k"]:
    """Positions of the slices along an axis on which the brain extends from voxel `first` to `last`, in voxels.

    `uniform`: evenly spaced between the margins. `gaussian`: at the quantiles (n + 1/2) / N of a normal distribution
    about the middle of the extent with a deviation of `slice_scale` times the extent, truncated at the margins: no
    draw, so that a scan has the same slices before pretraining and in use, and no two of them fall together.
    """
    if every_slice:
        count = max(1, int((last - first + 1) * spacing_mm / recipe.spacing_mm))
        return np.linspace(first, last, count)
    margin = recipe.margin * (last - first)
    low, high = first + margin, last - margin
    if recipe.slice_rule == "uniform" or last == first:
        return np.linspace(low, high, recipe.slices)
    middle, deviation = (first + last) / 2, recipe.slice_scale * (last - first)
    below, above = ndtr((low - middle) / deviation), ndtr((high - middle) / deviation)
    share = (np.arange(recipe.slices) + 0.5) / recipe.slices
    return np.asarray(middle + deviation * ndtri(below + share * (above - below)))


def distinct(prepared: Volume, recipe: Recipe) -> Bool[np.ndarray, " k"]:
    """True for the slices of a prepared volume that are no near-duplicates: what a corpus keeps.

    Going up, a slice is kept where its root mean square difference from the last kept one, over the pixels that are
    brain in either, all contrasts and channels, is at least `least_change` (standard deviations of the brain). In use
    every slice stays, so that each case has as many views.
    """
    assert prepared.brain_mask is not None
    count = prepared.voxels.shape[3]
    kept = np.zeros(count, bool)
    last = -1
    for k in range(count):
        kept[k] = last < 0 or recipe.least_change == 0 or _change(prepared, last, k) >= recipe.least_change
        last = k if kept[k] else last
    return kept


def _change(prepared: Volume, one: int, other: int) -> float:
    assert prepared.brain_mask is not None
    either = prepared.brain_mask[:, :, one] | prepared.brain_mask[:, :, other]
    if not either.any():
        return 0.0
    difference = prepared.voxels[:, :, :, one][:, either] - prepared.voxels[:, :, :, other][:, either]
    return float(np.sqrt(np.mean(difference**2)))
