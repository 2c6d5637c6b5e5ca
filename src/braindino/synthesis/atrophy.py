"""Tissue loss as a sub-voxel growth of the neighbouring CSF, solved for an exact share of volume."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import gaussian_filter

EDGE = 0.25
"""Width of the soft edge of grown CSF, in units of the smoothed CSF fraction."""


def grow_csf(
    fractions: Float32[np.ndarray, "tissue i j k"],
    region: Bool[np.ndarray, "i j k"],
    loss: float,
    smooth_voxels: Float[np.ndarray, " 3"],
    tissues: tuple[int, ...] = (1, 2),
) -> Float32[np.ndarray, "tissue i j k"]:
    """Let CSF spread within `region` until the share `loss` of its tissue is CSF; the nearest tissue goes first.

    With s the CSF fraction smoothed by a Gaussian, the new fraction is max(csf, clip(1/2 + (s - t) / EDGE, 0, 1)), at
    most csf plus the tissue there; the level t is found by bisection. A negative `loss` returns CSF to tissue by the
    mirror image of this.

    Args:
        fractions: CSF first.
        region: where tissue may change; its edge is softened over about a voxel.
        loss: lost share of the summed `tissues` in the region, -0.3 to 0.6.
        smooth_voxels: sd of the Gaussian along each axis: how far from CSF the loss reaches.
        tissues: indices that shrink, in local proportion: (1, 2) grey and white matter, (1,) grey matter only.

    Returns:
        New fractions; the sum over tissues is unchanged.
    """
    weight = gaussian_filter(region.astype(np.float32), 1.0)
    wide = weight > 0.02
    inside = fractions[:, wide]
    tissue = inside[list(tissues)].sum(0)
    near = gaussian_filter(fractions[0], smooth_voxels)[wide]
    moved = _moved(near, inside[0], tissue, weight[wide], region[wide], loss)
    inside[0] += moved
    inside[list(tissues)] *= 1 - moved / np.maximum(tissue, 1e-6)
    result = fractions.copy()
    result[:, wide] = inside
    return result


def _moved(
    near: Float32[np.ndarray, " voxel"],
    csf: Float32[np.ndarray, " voxel"],
    tissue: Float32[np.ndarray, " voxel"],
    weight: Float32[np.ndarray, " voxel"],
    counted: Bool[np.ndarray, " voxel"],
    loss: float,
) -> Float32[np.ndarray, " voxel"]:
    """CSF gained per voxel (negative for a negative loss): over `counted` the share `loss`, if possible."""
    low, high, target = -1.0, 2.0, loss * float(tissue[counted].sum())
    lower = np.zeros_like(csf) if loss >= 0 else np.where(tissue > 1e-3, -csf, 0)
    upper = tissue if loss >= 0 else np.zeros_like(csf)
    moved = np.zeros_like(csf)
    for _ in range(30):
        level = (low + high) / 2
        change = np.clip(0.5 + (near - level) / EDGE, 0, 1) - csf
        moved = np.asarray(np.clip(change, lower, upper) * weight, np.float32)
        if moved[counted].sum() > target:
            low = level
        else:
            high = level
    return moved
