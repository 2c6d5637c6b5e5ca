"""Motion: the head moved three times while the lines of k-space were measured."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from braindino.perturbations import generator, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (0.0, 0.5, 1.0, 2.0, 3.5, 5.0)
UNIT = "mm of displacement and degrees of rotation at each move"
MOVES = 3
CALM = 0.05
"""Share of the lines on either side of the centre of k-space in which the head lies still."""


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """|inverse FFT| of a k-space whose lines come from the head in four poses, in the order of measuring.

    Phase is encoded along the axis from posterior to anterior, line after line from one edge of k-space to the other.
    At three random moments the head takes another pose: moved by `mm` in a random direction and turned by as many
    degrees about a random axis through the centre of the image. Poses are relative to the one in which the centre of
    k-space was measured, which decides where the head is seen: so brain mask and label map stay where they are. Every
    contrast, a scan of its own, has its own moves. Edges blur, and ghosts appear along the phase axis.

    Raises:
        ValueError: a severity that is not in the table.
    """
    size_mm = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    rng = generator(volume, seed, "motion")
    changed = np.stack([_moved(image, volume, size_mm, rng) for image in volume.voxels])
    return with_voxels(volume, changed, f"perturbed: motion, {MOVES} moves of {size_mm:g} mm and {size_mm:g} degrees")


def _moved(
    image: Float32[np.ndarray, "i j k"], volume: Volume, size_mm: float, rng: np.random.Generator
) -> Float32[np.ndarray, "i j k"]:
    lines = image.shape[1]
    moments = np.sort(rng.random(MOVES))
    moments += np.where(np.abs(moments - 0.5) < CALM, np.where(moments < 0.5, -CALM, CALM), 0)
    pose = np.searchsorted(moments, (np.arange(lines) + 0.5) / lines)  # of each line, in order of measuring
    still = pose[lines // 2]
    spectrum = fft.fftshift(fft.fft(image, axis=1), axes=1)
    for number in range(MOVES + 1):
        step, axis = rng.standard_normal((2, 3))
        if number == still or not (pose == number).any():
            continue
        shifted = _posed(image, volume, size_mm * step / np.linalg.norm(step), size_mm * axis / np.linalg.norm(axis))
        own = fft.fftshift(fft.fft(shifted, axis=1), axes=1)
        spectrum[:, pose == number] = own[:, pose == number]
    return np.asarray(np.abs(fft.ifft(fft.ifftshift(spectrum, axes=1), axis=1)), np.float32)


def _posed(
    image: Float32[np.ndarray, "i j k"], volume: Volume, step_mm: Float[np.ndarray, " 3"], turn: Float[np.ndarray, " 3"]
) -> Float32[np.ndarray, "i j k"]:
    """The image moved by `step_mm` and turned by the rotation vector `turn` in degrees, in mm along the voxel axes."""
    spacing, middle = np.array(volume.spacing_mm), (np.array(image.shape) - 1) / 2
    rotation = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    back = np.diag(1 / spacing) @ rotation.T @ np.diag(spacing)
    offset = middle - back @ (middle + step_mm / spacing)
    return np.asarray(ndimage.affine_transform(image, back, offset, order=1, mode="nearest"), np.float32)
