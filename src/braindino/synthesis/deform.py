"""Smooth invertible deformations: stationary velocity fields, scaling and squaring, and pushes from a region's surface.

A velocity v (mm) gives the map exp(v) by doubling a small step: u <- u + u o (id + u), six times from v / 2^6
(Arsigny et al., MICCAI 2006). exp(-v) is its inverse; the Jacobian determinant of either stays positive.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

GRID_MM = 4.0
"""Spacing of velocity fields."""
SQUARINGS = 6

Field = Float32[np.ndarray, "axis x y z"]
"""A velocity or a displacement in mm on the coarse grid."""


def coarse_shape(extent_mm: Float[np.ndarray, " 3"]) -> tuple[int, int, int]:
    """Number of velocity nodes along each axis that cover `extent_mm`, node 0 at the anatomy's voxel 0."""
    i, j, k = (int(np.ceil(length / GRID_MM)) + 1 for length in extent_mm)
    return i, j, k


def random_velocity(rng: np.random.Generator, shape: tuple[int, int, int], smooth_mm: float, rms_mm: float) -> Field:
    """White noise smoothed by a Gaussian of sd `smooth_mm`, scaled to a root mean square length of `rms_mm`."""
    noise = rng.standard_normal((3, *shape), dtype=np.float32)
    smooth = np.stack([gaussian_filter(part, smooth_mm / GRID_MM, mode="nearest") for part in noise])
    return np.asarray(smooth * (rms_mm / np.sqrt((smooth**2).sum(0).mean())), np.float32)


def exponential(velocity: Field) -> Field:
    """Displacement u (mm) of exp(v): point x goes to x + u(x)."""
    nodes = _nodes(velocity.shape[1:])
    step = velocity / np.float32(GRID_MM * 2**SQUARINGS)
    for _ in range(SQUARINGS):
        there = nodes + step
        step = step + np.stack([map_coordinates(part, there, order=1, mode="nearest") for part in step])
    return step * np.float32(GRID_MM)


def jacobian(displacement: Field) -> Float32[np.ndarray, "x y z"]:
    """Determinant of the derivative of x + u(x), by central differences: the local growth of volume."""
    rows = [np.gradient(part / GRID_MM) for part in displacement]
    a, b, c = (np.stack(row) for row in rows)
    a, b, c = a.copy(), b.copy(), c.copy()
    a[0] += 1
    b[1] += 1
    c[2] += 1
    return np.asarray((np.cross(a, b, axis=0) * c).sum(0), np.float32)


def push(region: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"], reach_mm: float) -> Field:
    """Velocity of length 1 mm at the surface of `region`, pointing outward: w(d) grad d with signed distance d.

    Outside, w = exp(-(d / reach)^2); inside it falls to 0 over 5 mm. On the coarse grid.
    """
    distance = distance_transform_edt(~region, spacing_mm) - distance_transform_edt(region, spacing_mm)
    shape = coarse_shape(np.array(region.shape) * spacing_mm)
    nodes = _nodes(shape) * (GRID_MM / spacing_mm)[:, None, None, None]
    distance = gaussian_filter(distance.astype(np.float32), 1.0)
    there = map_coordinates(distance, nodes, order=1, mode="nearest")
    weight = np.where(there > 0, np.exp(-((there / reach_mm) ** 2)), np.clip(1 + there / 5, 0, 1))
    direction = np.stack(np.gradient(there, GRID_MM))
    return np.stack([gaussian_filter(weight * part, 0.7) for part in direction]).astype(np.float32)


def growth_curve(
    share: Float32[np.ndarray, "i j k"], unit: Field, spacing_mm: Float[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Volume (ml) of what fills the share `share` of voxels, after exp(a unit), for amplitudes a in mm: both rise."""
    amplitudes = np.array([-16.0, -8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0])
    filled = share > 0
    points = np.argwhere(filled).T * (spacing_mm / GRID_MM)[:, None]
    voxel_ml = float(spacing_mm.prod()) / 1000
    volumes = [
        float(share[filled] @ map_coordinates(jacobian(exponential(unit * np.float32(a))), points, order=1)) * voxel_ml
        for a in amplitudes
    ]
    return amplitudes, np.maximum.accumulate(np.array(volumes))


@lru_cache(maxsize=8)
def _nodes(shape: tuple[int, int, int]) -> Float32[np.ndarray, "axis x y z"]:
    return np.indices(shape, dtype=np.float32)
