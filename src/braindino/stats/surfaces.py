"""Overlap and surface distance of two regions of voxels; the empty rule stands in `stats.segmentation`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

TOLERANCE_MM = 1.0
"""Surfaces that lie this close are taken for the same by `surface_dice` (the paper's tolerance)."""
Distances = tuple[Float[np.ndarray, " a"], Float[np.ndarray, " b"]]


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

    Distances as in `surface_distances_mm`. Pooling both directions, as some tools do, gives another number.

    Raises:
        ValueError: different grids, or a spacing that is not positive.
    """
    return hd95_of(surface_distances_mm(truth, predicted, spacing_mm), truth, spacing_mm)


def surface_dice(
    truth: Bool[np.ndarray, "i j k"],
    predicted: Bool[np.ndarray, "_ _ _"],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = TOLERANCE_MM,
) -> float:
    """Share of both surfaces that lies within `tolerance_mm` of the other one (normalised surface Dice), 0 to 1.

    (#{a: d(a, B) <= tolerance} + #{b: d(b, A) <= tolerance}) / (#a + #b) over surface voxels a and b (Nikolov et al.,
    JMIR 2021, counting voxels instead of measuring areas, as MONAI does). Distances as in `surface_distances_mm`.

    Raises:
        ValueError: different grids, or a spacing that is not positive.
    """
    return surface_dice_of(surface_distances_mm(truth, predicted, spacing_mm), tolerance_mm)


def surface_distances_mm(
    truth: Bool[np.ndarray, "i j k"],
    predicted: Bool[np.ndarray, "_ _ _"],
    spacing_mm: tuple[float, float, float],
) -> Distances:
    """Distance of each surface voxel of the truth to the predicted surface, and the other way round, in mm.

    The surface is the voxels of a region with a face neighbour outside it (outside the grid counts as outside);
    distances run between voxel centres. A distance to an empty region is infinite.

    Raises:
        ValueError: different grids, or a spacing that is not positive.
    """
    _same_grid(truth, predicted)
    if len(spacing_mm) != 3 or not all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        raise ValueError(f"spacing must be three positive lengths in mm, got {spacing_mm}")
    if not (truth.any() or predicted.any()):
        return np.zeros(0), np.zeros(0)
    box = ndimage.find_objects((truth | predicted).astype(np.uint8))[0]
    a, b = _surface(truth[box]), _surface(predicted[box])
    return _to(b, spacing_mm)[a], _to(a, spacing_mm)[b]


def hd95_of(distances: Distances, grid: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """`hd95_mm` from the distances: 0 where both regions are empty, the diagonal of `grid` where one is."""
    there, back = distances
    if not (len(there) and len(back)):
        return float(np.linalg.norm(np.multiply(grid.shape, spacing_mm))) if len(there) + len(back) else 0.0
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface_dice_of(distances: Distances, tolerance_mm: float) -> float:
    """`surface_dice` from the distances: 1 where both regions are empty, 0 where one is."""
    both = np.concatenate(distances)
    return float((both <= tolerance_mm).mean()) if len(both) else 1.0


def _to(surface: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]) -> Float[np.ndarray, "i j k"]:
    """Distance of every voxel to the nearest one of `surface`, in mm; infinite where there is none."""
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing_mm))


def _surface(region: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    return np.asarray(region & ~ndimage.binary_erosion(region, border_value=0))


def _same_grid(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps on different grids: {truth.shape} and {predicted.shape}")
