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
) -> Float32[np.ndarray, "tissue i j k"]:
    """Move the boundary between CSF and brain within `region` until the share `loss` of its tissue has become CSF.

    A shift by t mm changes the CSF fraction by t |grad csf|, at most by the tissue there; t is found by bisection.
    A negative `loss` moves CSF to tissue. Tissue is grey and white in their local proportion.

    Args:
        fractions: csf, grey, white first.
        region: where tissue may change.
        loss: share of (grey + white) in the region, -0.3 to 0.6.
        spacing_mm: voxel edges.

    Returns:
        New fractions; the sum over tissues is unchanged.
    """
    csf, tissue = fractions[0], fractions[1] + fractions[2]
    speed = np.sqrt(sum(g**2 for g in np.gradient(gaussian_filter(csf, 0.6), *spacing_mm)))[region] + INTERIOR
    limit = (tissue if loss >= 0 else csf)[region]
    target = abs(loss) * float(tissue[region].sum())
    low, high = 0.0, 200.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.minimum(limit, middle * speed).sum() < target:
            low = middle
        else:
            high = middle
    moved = np.minimum(limit, high * speed).astype(np.float32) * (1 if loss >= 0 else -1)
    result = fractions.copy()
    scale = 1 - moved / np.maximum(tissue[region], 1e-6)
    result[0][region] += moved
    grey = result[1][region]
    bare = tissue[region] <= 1e-6
    result[1][region] = np.where(bare, np.maximum(-moved, 0), grey * scale)
    result[2][region] = np.where(bare, 0, result[2][region] * scale)
    return result
