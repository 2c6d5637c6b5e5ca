"""Tissue loss as a sub-voxel shift of the boundary with CSF, solved for an exact share of volume."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import gaussian_filter

INTERIOR = 0.01
"""Small share per mm of shift that is lost away from any boundary."""


def shift_boundary(
    fractions: Float32[np.ndarray, "tissue i j k"],
    region: Bool[np.ndarray, "i j k"],
    loss: float,
    spacing_mm: Float[np.ndarray, " 3"],
    tissues: tuple[int, ...] = (1, 2),
) -> Float32[np.ndarray, "tissue i j k"]:
    """Move the boundary between CSF and brain within `region` until the share `loss` of its tissue has become CSF.

    A shift by t mm changes the CSF fraction by t |grad csf|, at most by the tissue there; t is found by bisection.
    A negative `loss` moves CSF to tissue. `tissues` change in their local proportion.

    Args:
        fractions: CSF first.
        region: where tissue may change.
        loss: lost share of the summed `tissues` in the region, -0.3 to 0.6.
        spacing_mm: voxel edges.
        tissues: indices that shrink: (1, 2) grey and white matter, (1,) grey matter only.

    Returns:
        New fractions; the sum over tissues is unchanged.
    """
    inside = fractions[:, region]
    tissue = inside[list(tissues)].sum(0)
    slope = np.sqrt(sum(g**2 for g in np.gradient(gaussian_filter(fractions[0], 0.6), *spacing_mm)))
    speed = slope[region] + INTERIOR
    limit = tissue if loss >= 0 else np.where(tissue > 1e-3, inside[0], 0)
    shift = _solve(limit, speed, abs(loss) * float(tissue.sum()))
    moved = np.copysign(np.minimum(limit, shift * speed), loss)
    inside[0] += moved
    inside[list(tissues)] *= 1 - moved / np.maximum(tissue, 1e-6)
    result = fractions.copy()
    result[:, region] = inside
    return result


def _solve(limit: Float[np.ndarray, " voxel"], speed: Float[np.ndarray, " voxel"], target: float) -> float:
    """The shift t at which sum min(limit, t speed) reaches `target` (or all there is)."""
    low, high = 0.0, 200.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.minimum(limit, middle * speed).sum() < target:
            low = middle
        else:
            high = middle
    return high
