"""From signal to image: slice thickness, receive field, Rician noise."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from braindino.synthesis.anatomy import area_matrix


def acquire(
    rng: np.random.Generator,
    signal: Float32[np.ndarray, "i j k"],
    bias: Float32[np.ndarray, "i j k"],
    noise_sd: float,
    slice_voxels: float,
) -> Float32[np.ndarray, "i j k"]:
    """Average over slices, shade, add Rician noise, and interpolate the slices back onto the grid.

    M = sqrt((B S + n1)^2 + n2^2) with n1, n2 ~ N(0, noise_sd^2) (Gudbjartsson and Patz, MRM 1995): in air the
    mean over sd is sqrt(pi / (4 - pi)) = 1.91.

    Args:
        rng: source of the noise.
        signal: signed signal.
        bias: receive field, around 1.
        noise_sd: sd of each channel, in units of the signal.
        slice_voxels: slice thickness over the voxel edge along k; at most 1 means no averaging.
    """
    shaded = signal * bias
    thick = slice_voxels > 1
    if thick:
        shaded = shaded @ area_matrix(signal.shape[2], slice_voxels).T
    real = shaded + np.float32(noise_sd) * rng.standard_normal(shaded.shape, dtype=np.float32)
    image = np.hypot(real, np.float32(noise_sd) * rng.standard_normal(shaded.shape, dtype=np.float32))
    if thick:
        image = image @ interpolation_matrix(image.shape[2], signal.shape[2], slice_voxels).T
    return np.asarray(image, np.float32)


def interpolation_matrix(slices: int, size: int, ratio: float) -> Float32[np.ndarray, "size slices"]:
    """Linear interpolation between the centres of thick slices, at the centres of thin ones; ends are held."""
    where = np.clip((np.arange(size) + 0.5) / ratio - 0.5, 0, slices - 1)
    return np.asarray(np.maximum(1 - np.abs(where[:, None] - np.arange(slices)[None]), 0), np.float32)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int, int], sd: float, order: int = 3
) -> Float32[np.ndarray, "i j k"]:
    """exp of a random cosine series up to `order` half-waves per axis, with sd `sd` over the field of view, mean 0."""
    frequency = np.arange(order + 1)
    weights = rng.standard_normal((order + 1,) * 3) / (1 + sum(np.meshgrid(*[frequency**2] * 3)))
    weights[0, 0, 0] = 0
    axes = [np.cos(np.pi * (np.arange(n)[:, None] + 0.5) / n * frequency) for n in shape]
    field = np.einsum("abc,ia,jb,kc->ijk", weights, *axes, optimize=True)
    return np.asarray(np.exp(field * (sd / field.std())), np.float32)
