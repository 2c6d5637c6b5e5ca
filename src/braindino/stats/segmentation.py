"""Overlap and surface distance of regions.

The empty rule, once: both empty is a perfect answer (Dice 1, HD95 0 mm). One of the two empty is the worst answer
(Dice 0, HD95 the diagonal of the grid in mm, the largest distance that it holds), so a model never gains by
missing a tumour and no case is dropped from a mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage


def dice(truth: Bool[np.ndarray, "i j k"], predicted: Bool[np.ndarray, "_ _ _"]) -> float:
    """Dice = 2 |A and B| / (|A| + |B|), 0 to 1; 1 where both are empty."""
    _same_grid(truth, predicted)
    total = int(truth.sum()) + int(predicted.sum())
    return 2 * int((truth & predicted).sum()) / total if total else 1.0


def hd95_mm(
    truth: Bool[np.ndarray, "i j k"],
    predicted: Bool[np.ndarray, "_ _ _"],
    spacing_mm: tuple[float, float, float],
) -> float:
    """95th percentile surface distance in mm: the larger of the two directed 95th percentiles.

    The surface is the voxels of a region with a face neighbour outside it (outside the grid counts as outside);
    distances run between voxel centres. Pooling both directions, as some tools do, gives another number.

    Raises:
        ValueError: different grids, or a spacing that is not positive.
    """
    _same_grid(truth, predicted)
    if len(spacing_mm) != 3 or not all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        raise ValueError(f"spacing must be three positive lengths in mm, got {spacing_mm}")
    if not truth.any() or not predicted.any():
        return 0.0 if truth.any() == predicted.any() else float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    box = ndimage.find_objects((truth | predicted).astype(np.uint8))[0]
    a, b = _surface(truth[box]), _surface(predicted[box])
    there = ndimage.distance_transform_edt(~b, sampling=spacing_mm)[a]
    back = ndimage.distance_transform_edt(~a, sampling=spacing_mm)[b]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def region_scores(
    truth: Integer[np.ndarray, "i j k"],
    predicted: Integer[np.ndarray, "_ _ _"],
    regions: Mapping[str, tuple[int, ...]],
    spacing_mm: tuple[float, float, float],
) -> dict[str, float]:
    """`<region>_dice` and `<region>_hd95_mm` of each region, a union of labels (whole tumour: 1, 2 and 3)."""
    scores = {}
    for name, labels in regions.items():
        a, b = np.isin(truth, labels), np.isin(predicted, labels)
        scores[f"{name}_dice"] = dice(a, b)
        scores[f"{name}_hd95_mm"] = hd95_mm(a, b, spacing_mm)
    return scores


def _surface(region: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    return np.asarray(region & ~ndimage.binary_erosion(region, border_value=0))


def _same_grid(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps on different grids: {truth.shape} and {predicted.shape}")
