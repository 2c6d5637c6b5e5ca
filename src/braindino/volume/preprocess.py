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
from braindino.volume.resample import Box, Matrix, bounding_box, interpolation, resample, within


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
    brain = bounding_box(mask)
    centres = _target_grid(brain, volume.spacing_mm, recipe, every_slice)
    shape = tuple(map(len, centres))
    windows = [
        _matrices(centres, mask.shape, volume.spacing_mm, recipe, offset)
        for offset in range(-recipe.neighbours, recipe.neighbours + 1)
    ]
    matrices, target = within(brain, windows[recipe.neighbours])
    brain_in_target = np.zeros(shape, bool)
    brain_in_target[target] = resample(mask[brain], matrices) > 0.5
    box = brain if recipe.brain == "mask" else tuple(map(slice, mask.shape))
    voxels = _empty(len(volume.voxels) * len(windows), shape, recipe.background)
    for n, image in enumerate(volume.voxels):
        above_background = _normalise(image[box], mask[box], recipe) - np.float32(recipe.background)
        for channel, window in enumerate(windows):
            matrices, target = within(box, window)
            voxels[n * len(windows) + channel][target] += resample(above_background, matrices)
    even = every_slice or recipe.slice_rule == "uniform"
    return replace(
        volume,
        voxels=voxels,
        affine=grid_affine(volume.affine, centres),
        brain_mask=brain_in_target,
        label_map=None if volume.label_map is None else nearest(volume.label_map, centres),
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
    matrices = [
        interpolation(inverse[axis, axis] * np.arange(size) + inverse[axis, 3], dense.shape[1 + axis], 1.0)
        for axis, size in enumerate(shape)
    ]
    return np.stack([resample(image, matrices) for image in dense])


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
    brain: Box, spacing_mm: tuple[float, float, float], recipe: Recipe, every_slice: bool
) -> list[np.ndarray]:
    """Voxel coordinates, along each axis of the source, of the pixel centres and slices of the target."""
    centres = []
    for part, step in zip(brain[:2], spacing_mm, strict=False):
        offsets = (np.arange(recipe.size_px) - (recipe.size_px - 1) / 2) * recipe.spacing_mm / step
        centres.append((part.start + part.stop - 1) / 2 + offsets)
    height = brain[2]
    centres.append(slice_centres(height.start, height.stop - 1, spacing_mm[2], recipe, every_slice=every_slice))
    return centres


def _matrices(
    centres: list[np.ndarray],
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    recipe: Recipe,
    offset: int,
) -> list[Matrix]:
    """Interpolation matrices of the three axes, for slices moved up by `offset` times the recipe's spacing."""
    moved = [centres[0], centres[1], centres[2] + offset * recipe.spacing_mm / spacing_mm[2]]
    return [
        interpolation(c, size, recipe.spacing_mm / step) for c, size, step in zip(moved, shape, spacing_mm, strict=True)
    ]


def _empty(count: int, shape: tuple[int, ...], background: float) -> Float32[np.ndarray, "channel i j k"]:
    """Nothing but background, in memory already in the order of `to_slices`, which then copies nothing."""
    slices = np.full((shape[2], count, shape[1], shape[0]), background, np.float32)
    return slices.transpose(1, 3, 2, 0)[:, :, ::-1, :]


def nearest(labels: Shaped[np.ndarray, "i j k"], centres: list[np.ndarray]) -> Shaped[np.ndarray, "a b c"]:
    """Labels at the nearest voxels; 0 outside the field of view."""
    places = [np.clip(np.rint(c).astype(int), 0, n - 1) for c, n in zip(centres, labels.shape, strict=True)]
    inside = [(c > -0.5) & (c < n - 0.5) for c, n in zip(centres, labels.shape, strict=True)]
    return np.where(np.all(np.meshgrid(*inside, indexing="ij"), axis=0), labels[np.ix_(*places)], 0)


def _positions_mm(affine: Float[np.ndarray, "4 4"], centres: list[np.ndarray]) -> Float32[np.ndarray, " k"]:
    """World z coordinate of the centre of each slice of a grid."""
    middle = np.array([centres[0].mean(), centres[1].mean()])
    return np.asarray(affine[2, :2] @ middle + affine[2, 2] * centres[2] + affine[2, 3], np.float32)


def grid_affine(affine: Float[np.ndarray, "4 4"], centres: list[np.ndarray]) -> Float[np.ndarray, "4 4"]:
    """Affine of the evenly spaced grid whose voxel coordinates in the old grid are `centres`."""
    index = np.eye(4)
    for axis, centre in enumerate(centres):
        index[axis, axis] = (centre[-1] - centre[0]) / (len(centre) - 1) if len(centre) > 1 else 1.0
        index[axis, 3] = centre[0]
    return np.asarray(affine @ index)
