"""The one preprocessing, used alike before pretraining and in use.

The `Recipe` travels inside `encoder.safetensors`; features made by another recipe are refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from braindino.types import Volume
from braindino.volume.brain import brain_mask
from braindino.volume.recipe import Recipe


def preprocess(volume: Volume, recipe: Recipe, *, every_slice: bool = False) -> Volume:
    """Brain mask, clip and z-score inside it, resample in mm, crop to the brain, cut into axial slices.

    For each contrast, with a, b the percentiles `clip_percent` of x inside the mask M: x <- clip(x, a, b), then
    x <- (x - mean_M(x)) / sd_M(x), and background outside M. Resampling is linear and antialiased (a triangle as
    wide as the coarser of the two grids), along the voxel axes; outside the field of view lies background.

    Args:
        volume: in RAS, as `read_volume` gives it.
        recipe: the encoder's.
        every_slice: one slice per `spacing_mm` over the whole brain instead of `slices` (dense prediction).

    Returns:
        A volume of `size_px` x `size_px` x slices; its `brain_mask` and `label_map` (nearest neighbour) come along.

    Raises:
        ValueError: brain volume outside `brain_ml`, or no variation of intensity inside the brain.
    """
    mask, told = brain_mask(volume)
    millilitres = float(mask.sum()) * float(np.prod(volume.spacing_mm)) / 1000
    low, high = recipe.brain_ml
    if not low <= millilitres <= high:
        raise ValueError(
            f"brain mask of {millilitres:.0f} ml (expected {low:.0f} to {high:.0f}); mask or header is wrong"
        )
    voxels = np.stack([_normalise(image, mask, recipe) for image in volume.voxels])
    centres = _target_grid(mask, volume.spacing_mm, recipe, every_slice)
    weights = [
        _weights(centre, size, recipe.spacing_mm / step)
        for centre, size, step in zip(centres, mask.shape, volume.spacing_mm, strict=True)
    ]
    nearest = np.ix_(*[np.clip(np.rint(c).astype(int), 0, n - 1) for c, n in zip(centres, mask.shape, strict=True)])
    inside = np.all(np.meshgrid(*map(_within, centres, mask.shape), indexing="ij"), axis=0)
    labels = None if volume.label_map is None else np.where(inside, volume.label_map[nearest], 0)
    return replace(
        volume,
        voxels=np.stack([_resample(image - recipe.background, weights) for image in voxels])
        + np.float32(recipe.background),
        affine=_grid_affine(volume.affine, centres),
        brain_mask=_resample(mask.astype(np.float32), weights) > 0.5,
        label_map=labels,
        history=(
            *volume.history,
            told,
            f"recipe {recipe.hash()}: {millilitres:.0f} ml of brain, {len(centres[2])} slices",
        ),
    )


def restore(
    dense: Float[np.ndarray, "region i j k"], prepared: Volume, original: Volume
) -> Float32[np.ndarray, "region a b c"]:
    """Carry maps from the grid of `preprocess` back to the grid of the original volume, linearly; 0 outside."""
    inverse = np.linalg.inv(prepared.affine) @ original.affine
    shape = original.voxels.shape[1:]
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
    """World z coordinate of the centre of each axial slice, in mm."""
    middle = np.array([(volume.voxels.shape[1] - 1) / 2, (volume.voxels.shape[2] - 1) / 2])
    k = np.arange(volume.voxels.shape[3])
    return np.asarray(volume.affine[2, :2] @ middle + volume.affine[2, 2] * k + volume.affine[2, 3], np.float32)


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
    scaled = (np.clip(image, low, high) - mean) / deviation
    if recipe.brain == "mask":
        scaled = np.where(mask, scaled, recipe.background)
    return np.asarray(scaled, np.float32)


def _target_grid(
    mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float], recipe: Recipe, every_slice: bool
) -> list[np.ndarray]:
    """Voxel coordinates, along each axis of the source, of the pixel centres and slices of the target."""
    centres = []
    for axis in (0, 1):
        first, last = _extent(mask, axis)
        offsets = (np.arange(recipe.size_px) - (recipe.size_px - 1) / 2) * recipe.spacing_mm / spacing_mm[axis]
        centres.append((first + last) / 2 + offsets)
    first, last = _extent(mask, 2)
    if every_slice:
        count = max(1, int((last - first + 1) * spacing_mm[2] / recipe.spacing_mm))
        centres.append(np.linspace(first, last, count))
    else:
        margin = recipe.margin * (last - first)
        centres.append(np.linspace(first + margin, last - margin, recipe.slices))
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


def _resample(image: Float[np.ndarray, "i j k"], weights: list[np.ndarray]) -> Float32[np.ndarray, "a b c"]:
    """Apply one interpolation matrix per axis, the last axis first (it shrinks the most)."""
    along_k = image @ weights[2].T
    along_j = np.einsum("ijk,bj->ibk", along_k, weights[1], optimize=True)
    return np.asarray(np.tensordot(weights[0], along_j, axes=(1, 0)), np.float32)


def _within(centres: Float[np.ndarray, " n"], size: int) -> Bool[np.ndarray, " n"]:
    return (centres > -0.5) & (centres < size - 0.5)


def _grid_affine(affine: Float[np.ndarray, "4 4"], centres: list[np.ndarray]) -> Float[np.ndarray, "4 4"]:
    """Affine of the evenly spaced grid whose voxel coordinates in the old grid are `centres`."""
    index = np.eye(4)
    for axis, centre in enumerate(centres):
        index[axis, axis] = (centre[-1] - centre[0]) / (len(centre) - 1) if len(centre) > 1 else 1.0
        index[axis, 3] = centre[0]
    return np.asarray(affine @ index)
