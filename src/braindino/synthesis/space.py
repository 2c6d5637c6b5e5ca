"""From the anatomy's grid to the subject's: one interpolation through turn, scale and deformation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from braindino.synthesis import deform
from braindino.synthesis.anatomy import Anatomy
from braindino.synthesis.lesions import Lesion

MARGIN_MM = 8.0


@dataclass(frozen=True)
class Space:
    """An anatomy (and lesion) on the subject's grid."""

    fractions: Float32[np.ndarray, "tissue i j k"]
    regions: UInt8[np.ndarray, "i j k"]
    lesion: Float32[np.ndarray, "class i j k"]
    """Shares of the lesion's classes; no class without a lesion."""
    extent: Float32[np.ndarray, "i j k"]
    texture: Float32[np.ndarray, "i j k"]
    """Of the lesion; 0 without one."""
    affine: Float[np.ndarray, "4 4"]


def resample(
    base: Anatomy,
    lesion: Lesion | None,
    inverse: deform.Field,
    scale: Float[np.ndarray, " 3"],
    turn: Float[np.ndarray, " 3"],
    spacing_mm: Float[np.ndarray, " 3"],
) -> Space:
    """Sample `base` at x = id + inverse, after turning by `-turn` (radians) and dividing by `scale` about its centre.

    The grid covers the scaled anatomy with `MARGIN_MM` around it; what lies outside the anatomy is air. Tissues are
    interpolated linearly, regions by the nearest neighbour.
    """
    extent = np.array(base.regions.shape) * base.spacing_mm
    shape = tuple(int(n) for n in np.ceil((extent * scale + 2 * MARGIN_MM) / spacing_mm))
    matrix = np.diag(1 / scale) @ Rotation.from_euler("xyz", turn).as_matrix().T
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    points = np.tensordot(matrix.astype(np.float32), grid, 1) + ((extent - base.spacing_mm) / 2)[
        :, None, None, None
    ].astype(np.float32)
    coarse = points / np.float32(deform.GRID_MM)
    points += np.stack([map_coordinates(part, coarse, order=1, mode="nearest") for part in inverse])
    points /= base.spacing_mm[:, None, None, None].astype(np.float32)
    inside = _near(base, points)
    there = points[:, inside]

    def sample(image: Float32[np.ndarray, "a b c"]) -> Float32[np.ndarray, "i j k"]:
        out = np.zeros(shape, np.float32)
        if image.any():
            out[inside] = map_coordinates(image, there, order=1, mode="constant")
        return out

    fractions = np.stack([sample(part) for part in base.fractions])
    regions = np.zeros(shape, np.uint8)
    regions[inside] = map_coordinates(base.regions, there, order=0, mode="constant")
    nothing = np.zeros(shape, np.float32)
    shares, filled, texture = np.zeros((0, *shape), np.float32), nothing, nothing
    if lesion is not None:
        shares = np.stack([sample(part) for part in lesion.fractions])
        filled, texture = sample(lesion.extent), sample(lesion.texture)
    affine = np.diag([*spacing_mm, 1.0])
    centre = base.affine[:3, 3] + (extent - base.spacing_mm) / 2
    affine[:3, 3] = centre + [axis[0] for axis in axes]
    return Space(fractions, regions, shares, filled, texture, affine)


def _near(base: Anatomy, points: Float32[np.ndarray, "axis i j k"]) -> np.ndarray:
    """Points that may touch tissue: others are air and need no interpolation."""
    occupied = base.fractions.any(axis=0)
    return np.asarray(map_coordinates(occupied.astype(np.float32), points, order=1, mode="constant") > 0)
