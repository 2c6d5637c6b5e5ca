"""Linear, antialiased resampling along the voxel axes: one small matrix per axis, applied one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

Matrix = Float32[np.ndarray, "_ _"]
"""Row per target voxel, column per source voxel."""
Box = tuple[slice, ...]
"""A range of indices along each axis."""


def interpolation(centres: Float[np.ndarray, " out"], size: int, width: float) -> Float32[np.ndarray, "out {size}"]:
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


def bounding_box(mask: Bool[np.ndarray, "i j k"]) -> Box:
    """The smallest box that holds every voxel of a mask, which must not be empty."""
    columns, rows = np.any(mask, axis=2), np.any(mask, axis=0)
    along = (columns.any(axis=1), columns.any(axis=0), rows.any(axis=0))
    places = [np.flatnonzero(found) for found in along]
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in places)


def within(box: Box, matrices: Sequence[Matrix]) -> tuple[list[Matrix], Box]:
    """Matrices for an image that is 0 outside `box` and cut to it, and the box of the target that they reach."""
    cut = [matrix[:, part] for matrix, part in zip(matrices, box, strict=True)]
    reached = [np.flatnonzero(matrix.any(axis=1)) for matrix in cut]
    target = tuple(slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0) for rows in reached)
    return [np.ascontiguousarray(matrix[rows]) for matrix, rows in zip(cut, target, strict=True)], target


def resample(image: Shaped[np.ndarray, "i j k"], matrices: Sequence[Matrix]) -> Float32[np.ndarray, "a b c"]:
    """y[a, b, c] = sum over i, j, k of A[a, i] B[b, j] C[c, k] x[i, j, k]: the last axis first, it shrinks the most."""
    first, second, third = matrices
    image = np.ascontiguousarray(image, np.float32)
    along = (image.reshape(-1, image.shape[2]) @ third.T).reshape(*image.shape[:2], len(third))
    along = np.matmul(second, along)
    return np.asarray(first @ along.reshape(len(along), -1), np.float32).reshape(len(first), len(second), len(third))
