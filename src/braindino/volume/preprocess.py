"""The one preprocessing, used alike before pretraining and in use.

The `Recipe` travels inside `encoder.safetensors`; features made by another recipe are refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from scipy.ndimage import affine_transform

from braindino.types import Volume
from braindino.volume.brain import brain_mask
from braindino.volume.choose import slice_centres
from braindino.volume.itk import align, correct_bias
from braindino.volume.quality import quality, require
from braindino.volume.recipe import Recipe


def preprocess(volume: Volume, recipe: Recipe, *, every_slice: bool = False) -> Volume:
    """Brain mask, quality, corrections, clip and z-score inside the mask, resample in mm, crop to the brain, cut.

    For each contrast, with a, b the percentiles `clip_percent` of x inside the mask M: x <- clip(x, a, b), then
    x <- (x - mean_M(x)) / sd_M(x), and background outside M. Resampling is linear and antialiased (a triangle as
    wide as the coarser of the two grids), along the voxel axes; outside the field of view lies background.

    Args:
        volume: in RAS, as `read_volume` gives it.
        recipe: the encoder's.
        every_slice: one slice per `spacing_mm` over the whole brain instead of `slices` (dense prediction).

    Returns:
        A volume of `size_px` x `size_px` x slices, with its `brain_mask`, `label_map` (nearest neighbour) and
        `quality`. With `neighbours` n each contrast has 2 n + 1 channels in a row, from the lowest to the highest.

    Raises:
        ValueError: no brain mask, a scan beyond `brain_ml` or the `limits`, or no variation inside the brain.
    """
    mask, told = brain_mask(volume, recipe.brain_extractor)
    found = quality(volume, mask)
    require(found, recipe)
    volume, mask = _corrected(volume, mask, recipe)
    voxels = np.stack([_normalise(image, mask, recipe) for image in volume.voxels]) - np.float32(recipe.background)
    centres = _target_grid(mask, volume.spacing_mm, recipe, every_slice)
    windows = [
        _all_weights(centres, mask.shape, volume.spacing_mm, recipe, offset)
        for offset in range(-recipe.neighbours, recipe.neighbours + 1)
    ]
    nearest = np.ix_(*[np.clip(np.rint(c).astype(int), 0, n - 1) for c, n in zip(centres, mask.shape, strict=True)])
    inside = np.all(np.meshgrid(*map(_within, centres, mask.shape), indexing="ij"), axis=0)
    labels = None if volume.label_map is None else np.where(inside, volume.label_map[nearest], 0)
    even = every_slice or recipe.slice_rule == "uniform"
    return replace(
        volume,
        voxels=np.stack([_resample(image, window) for image in voxels for window in windows])
        + np.float32(recipe.background),
        affine=_grid_affine(volume.affine, centres),
        brain_mask=_resample(mask.astype(np.float32), windows[recipe.neighbours]) > 0.5,
        label_map=labels,
        quality=found,
        position_mm=None if even else _positions_mm(volume.affine, centres),
        history=(
            *volume.history,
            told,
            f"recipe {recipe.hash()}: {found.brain_ml:.0f} ml of brain, {len(centres[2])} slices",
        ),
    )


def restore(
    dense: Float[np.ndarray, "region i j k"], prepared: Volume, original: Volume
) -> Float32[np.ndarray, "region a b c"]:
    """Carry maps from the grid of `preprocess` (with `every_slice`) back to the original's, linearly; 0 outside."""
    world = original.affine if prepared.to_scan is None else np.linalg.inv(prepared.to_scan) @ original.affine
    inverse = np.linalg.inv(prepared.affine) @ world
    shape = original.voxels.shape[1:]
    if prepared.to_scan is not None:
        return np.stack([affine_transform(m, inverse, output_shape=shape, order=1).astype(np.float32) for m in dense])
    weights = [
        _weights(inverse[axis, axis] * np.arange(size) + inverse[axis, 3], dense.shape[1 + axis], 1.0)
        for axis, size in enumerate(shape)
    ]
    return np.stack([_resample(image.astype(np.float32), weights) for image in dense])


def to_slices(voxels: Shaped[np.ndarray, "contrast i j k"]) -> Shaped[np.ndarray, "k contrast row column"]:
    """Axial slices as pictures: rows run from Anterior to Posterior, columns from Left to Right."""
    return np.ascontiguousarray(voxels[:, :, ::-1, :].transpose(3, 0, 2, 1))


def from_slices(slices: Shaped[np.ndarray, "k contrast row column"]) -> Shaped[np.ndarray, "contrast i j k"]:
    """The inverse of `to_slices`."""
    return np.ascontiguousarray(slices.transpose(1, 3, 2, 0)[:, :, ::-1, :])


def slice_positions_mm(volume: Volume) -> Float32[np.ndarray, " k"]:
    """World z coordinate of the centre of each axial slice, in mm (of the template's world where it was aligned)."""
    if volume.position_mm is not None:
        return volume.position_mm
    middle = np.array([(volume.voxels.shape[1] - 1) / 2, (volume.voxels.shape[2] - 1) / 2])
    k = np.arange(volume.voxels.shape[3])
    return np.asarray(volume.affine[2, :2] @ middle + volume.affine[2, 2] * k + volume.affine[2, 3], np.float32)


def _corrected(
    volume: Volume, mask: Bool[np.ndarray, "i j k"], recipe: Recipe
) -> tuple[Volume, Bool[np.ndarray, "i j k"]]:
    """Bias field and pose, where the recipe asks for it."""
    if recipe.bias == "n4":
        volume = correct_bias(volume, mask)
    if recipe.template == "mni152":
        volume = align(volume, mask)
        assert volume.brain_mask is not None
        mask = volume.brain_mask
    return volume, mask


def _normalise(
    image: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], recipe: Recipe
) -> Float32[np.ndarray, "i j k"]:
    inside = image[mask]
    low, high = np.percentile(inside, recipe.clip_percent)
    inside = np.clip(inside, low, high)
    deviation = float(inside.std())
    if not deviation > 1e-6 * max(abs(low), abs(high), 1e-12):
        raise ValueError("all voxels inside the brain mask have the same value; the mask does not fit the image")
    mean = float(inside.mean())
    if recipe.brain == "none":
        return np.asarray((np.clip(image, low, high) - mean) / deviation, np.float32)
    scaled = np.full(image.shape, recipe.background, np.float32)
    scaled[mask] = (inside - mean) / deviation
    return scaled


def _target_grid(
    mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float], recipe: Recipe, every_slice: bool
) -> list[np.ndarray]:
    """Voxel coordinates, along each axis of the source, of the pixel centres and slices of the target."""
    centres = []
    for axis in (0, 1):
        first, last = _extent(mask, axis)
        offsets = (np.arange(recipe.size_px) - (recipe.size_px - 1) / 2) * recipe.spacing_mm / spacing_mm[axis]
        centres.append((first + last) / 2 + offsets)
    centres.append(slice_centres(*_extent(mask, 2), spacing_mm[2], recipe, every_slice=every_slice))
    return centres


def _extent(mask: Bool[np.ndarray, "i j k"], axis: int) -> tuple[int, int]:
    """First and last index along `axis` at which the mask has any voxel."""
    found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
    return int(found[0]), int(found[-1])


def _weights(centres: Float[np.ndarray, " out"], size: int, width: float) -> Float32[np.ndarray, "out size"]:
    """Interpolation matrix of one axis: a triangle of half-width max(1, width) source voxels at each centre.

    A row sums to 1 where the triangle lies inside the field of view, and to less where it reaches outside.
    """
    half = max(1.0, width)
    reach = np.arange(-int(np.ceil(half)), size + int(np.ceil(half)))
    full = np.maximum(0.0, 1.0 - np.abs(reach[None, :] - centres[:, None]) / half)
    inside = (reach >= 0) & (reach < size)
    offsets = np.arange(-int(half) - 1, int(half) + 2) - (centres % 1)[:, None]
    total = np.maximum(0.0, 1.0 - np.abs(offsets) / half).sum(axis=1, keepdims=True)
    return np.asarray(full[:, inside] / total, np.float32)


def _all_weights(
    centres: list[np.ndarray],
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    recipe: Recipe,
    offset: int,
) -> list[np.ndarray]:
    """Interpolation matrices of the three axes, for slices moved up by `offset` times the recipe's spacing."""
    moved = [centres[0], centres[1], centres[2] + offset * recipe.spacing_mm / spacing_mm[2]]
    return [_weights(c, size, recipe.spacing_mm / step) for c, size, step in zip(moved, shape, spacing_mm, strict=True)]


def _resample(image: Float[np.ndarray, "i j k"], weights: list[np.ndarray]) -> Float32[np.ndarray, "a b c"]:
    """Apply one interpolation matrix per axis, the last axis first (it shrinks the most)."""
    along_k = image @ weights[2].T
    along_j = np.einsum("ijk,bj->ibk", along_k, weights[1], optimize=True)
    return np.asarray(np.tensordot(weights[0], along_j, axes=(1, 0)), np.float32)


def _positions_mm(affine: Float[np.ndarray, "4 4"], centres: list[np.ndarray]) -> Float32[np.ndarray, " k"]:
    """World z coordinate of the centre of each slice of a grid."""
    middle = np.array([centres[0].mean(), centres[1].mean()])
    return np.asarray(affine[2, :2] @ middle + affine[2, 2] * centres[2] + affine[2, 3], np.float32)


def _within(centres: Float[np.ndarray, " n"], size: int) -> Bool[np.ndarray, " n"]:
    return (centres > -0.5) & (centres < size - 0.5)


def _grid_affine(affine: Float[np.ndarray, "4 4"], centres: list[np.ndarray]) -> Float[np.ndarray, "4 4"]:
    """Affine of the evenly spaced grid whose voxel coordinates in the old grid are `centres`."""
    index = np.eye(4)
    for axis, centre in enumerate(centres):
        index[axis, axis] = (centre[-1] - centre[0]) / (len(centre) - 1) if len(centre) > 1 else 1.0
        index[axis, 3] = centre[0]
    return np.asarray(affine @ index)
