"""A small picture of every brain, and whether two of them show one brain: under another mask, turned, resampled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage
from scipy.spatial.transform import Rotation

from braindino.types import Volume

CELL_MM = 4.0
THUMBNAIL = (42, 48, 30)
"""Cells of a thumbnail along Right, Anterior, Superior: 168 x 192 x 120 mm, the top one above the vertex."""
POOL = 3
"""Cells along each axis that are one cell of `coarse`."""
UPPER_MM = 100.0
LEAST_CELLS = 1000
"""Cells (64 ml) that two registered brains must share to be compared."""
SMOOTHING = 1.0
"""Gaussian sd, in cells, of what is registered."""
STRIDE = 8
"""Every eighth cell takes part in the registration."""
STEPS = 10
_MIDDLE = (np.array(THUMBNAIL, np.float32)[:, None] - 1) / 2
_GRID = np.indices(THUMBNAIL, np.float32).reshape(3, -1) - _MIDDLE


def thumbnail(volume: Volume) -> UInt8[np.ndarray, "r a s"]:
    """The brain (first contrast, inside `brain_mask`) in cells of 4 mm: ranks of intensity from 1 to 255, 0 outside.

    Cells hang from the top of the brain mask and are centred in the plane on its upper 100 mm. A cell's value is the
    mean over its brain voxels, each weighted by a triangle of 8 mm width along every axis; a cell with brain in less
    than half of its weight is outside. Ranks make any monotone change of intensities without effect.
    """
    mask = volume.brain_mask
    assert mask is not None
    weights = _weights(mask, volume.spacing_mm)
    held = _reduce(mask.astype(np.float32), weights)
    total = _reduce(np.where(mask, volume.voxels[0], 0).astype(np.float32), weights)
    inside = held > 0.5 * CELL_MM**3 / float(np.prod(volume.spacing_mm))
    picture = np.zeros(THUMBNAIL, np.uint8)
    ranks = (total[inside] / held[inside]).argsort(kind="stable").argsort(kind="stable")
    picture[inside] = 1 + ranks * 255 // max(len(ranks), 1)
    return picture


def _weights(mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]) -> list[np.ndarray]:
    """One matrix (cell, voxel) per axis: the triangle around each cell's centre."""
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1]) + 1
    upper = mask[:, :, max(0, top - round(UPPER_MM / spacing_mm[2])) : top]
    middles = [float(np.average(np.arange(n) + 0.5, weights=upper.sum(axis=axes))) for n, axes in _planes(upper)]
    middles.append(top - (THUMBNAIL[2] / 2 - 1) * CELL_MM / spacing_mm[2])
    weights = []
    for middle, cells, size, mm in zip(middles, THUMBNAIL, mask.shape, spacing_mm, strict=True):
        centres = middle + (np.arange(cells)[:, None] - (cells - 1) / 2) * CELL_MM / mm
        weights.append(np.clip(1 - np.abs(np.arange(size) + 0.5 - centres) * mm / CELL_MM, 0, None))
    return [matrix.astype(np.float32) for matrix in weights]


def _planes(mask: Bool[np.ndarray, "i j k"]) -> list[tuple[int, tuple[int, int]]]:
    return [(mask.shape[0], (1, 2)), (mask.shape[1], (0, 2))]


def _reduce(image: Float32[np.ndarray, "i j k"], weights: list[np.ndarray]) -> Float32[np.ndarray, "r a s"]:
    along = image @ weights[2].T
    return np.asarray(np.einsum("ijc,bj,ai->abc", along, weights[1], weights[0], optimize=True), np.float32)


def coarse(picture: UInt8[np.ndarray, "r a s"]) -> Float32[np.ndarray, " cell"]:
    """A thumbnail in cells of 12 mm, centred, of norm 1: a dot product is a correlation, blind to small shifts.

    Cells that are less than half brain are 0.
    """
    r, a, s = (n // POOL for n in THUMBNAIL)
    blocks = picture.astype(np.float32).reshape(r, POOL, a, POOL, s, POOL)
    held = (blocks > 0).sum(axis=(1, 3, 5))
    inside = held > POOL**3 / 2
    found = np.zeros(held.shape, np.float32)
    found[inside] = blocks.sum(axis=(1, 3, 5))[inside] / held[inside]
    found[inside] -= found[inside].mean() if inside.any() else 0
    return (found / max(float(np.linalg.norm(found)), 1e-6)).ravel()


def resemblance(one: UInt8[np.ndarray, "r a s"], two: UInt8[np.ndarray, "r a s"]) -> float:
    """Correlation of the local contrast of two brains after rigid registration of their thumbnails, -1 to 1.

    Both are turned half-way, so that interpolation smooths them alike. Local contrast is a cell minus the mean of the
    3 x 3 x 3 cells around it (12 mm); only cells of which all these lie within both brains count, so what one brain
    mask holds more than the other is without effect. Below `LEAST_CELLS` of them the answer is 0.
    """
    turn, shift = _registered(one, two)
    half = Rotation.from_rotvec(turn / 2).as_matrix()
    half_shift = np.linalg.solve(np.eye(3) + half, shift)
    places = np.flatnonzero(ndimage.binary_dilation(one > 0, iterations=2))
    images = np.full((2, *THUMBNAIL), np.nan, np.float32)
    for image, picture, *moved in ((images[0], one, half.T, -half.T @ half_shift), (images[1], two, half, half_shift)):
        image.ravel()[places] = _sampled(_within(picture, picture > 0), _moved(places, *moved))
    held = np.isfinite(images).all(axis=0)
    deep = ndimage.minimum_filter(held, 3, mode="constant")
    if deep.sum() < LEAST_CELLS:
        return 0.0
    contrasts = [(i - ndimage.uniform_filter(i, 3, mode="constant"))[deep] for i in np.where(held, images, 0)]
    return float(np.corrcoef(*contrasts)[0, 1]) if all(c.std() for c in contrasts) else 0.0


def _registered(one: np.ndarray, two: np.ndarray) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Rotation vector (radians, about the middle of the box) and shift (cells) from places in `one` to those in `two`.

    Gauss-Newton on squared differences after a linear fit of intensities.
    """
    turn, shift = np.zeros(3), np.zeros(3)
    places = np.flatnonzero(ndimage.binary_erosion(one > 0))[::STRIDE]
    wanted, moving = _smooth(one).ravel()[places], _smooth(two)
    slopes, moving = np.gradient(moving), _within(moving, ndimage.binary_erosion(two > 0))
    for _ in range(STEPS):
        at = _moved(places, Rotation.from_rotvec(turn).as_matrix(), shift)
        value = _sampled(moving, at)
        ok = np.isfinite(value)
        if ok.sum() < LEAST_CELLS / STRIDE:
            break
        slope = np.stack([_sampled(image, at[:, ok]) for image in slopes])
        step = _step(wanted[ok], value[ok], slope, at[:, ok] - _MIDDLE - shift[:, None])
        turn = (Rotation.from_rotvec(step[:3]) * Rotation.from_rotvec(turn)).as_rotvec()
        shift = shift + step[3:]
        if np.abs(step[:3]).max() < 0.002 and np.abs(step[3:]).max() < 0.04:
            break
    return turn, shift


def _moved(places: np.ndarray, turn: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, " 3"]) -> np.ndarray:
    """Where the cells with these numbers go, in cells."""
    return np.asarray(turn @ _GRID[:, places] + _MIDDLE + shift[:, None])


def _within(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """NaN outside `mask`: what is interpolated from there becomes NaN, too."""
    return np.asarray(np.where(mask, image, np.nan), np.float32)


def _sampled(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.map_coordinates(image, at, order=1, cval=np.nan))


def _step(wanted: np.ndarray, value: np.ndarray, slope: np.ndarray, arm: np.ndarray) -> Float[np.ndarray, " 6"]:
    """Change of turn (at most 0.05 radians) and shift (at most one cell) that explains most of what differs."""
    columns = np.concatenate([np.cross(arm, slope, axis=0), slope, value[None], np.ones((1, len(value)))])
    fit = np.linalg.lstsq(columns @ columns.T, columns @ wanted, rcond=None)[0]
    step = fit[:6] / max(float(fit[6]), 0.3)
    return np.asarray(np.clip(step, [-0.05] * 3 + [-1] * 3, [0.05] * 3 + [1] * 3))


def _smooth(picture: np.ndarray) -> Float32[np.ndarray, "r a s"]:
    """Gaussian mean over cells within the brain."""
    held = ndimage.gaussian_filter((picture > 0).astype(np.float32), SMOOTHING)
    total = ndimage.gaussian_filter(picture.astype(np.float32), SMOOTHING)
    return np.asarray(total / np.maximum(held, 1e-3), np.float32)
