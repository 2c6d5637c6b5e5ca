"""Noise of a magnitude image (Rician)."""

from __future__ import annotations

import numpy as np

from braindino.perturbations import brain_means, generator, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
UNIT = "sigma as a share of the brain's mean signal, which is 1 / SNR"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """y = sqrt((x + n1)^2 + n2^2) with n1, n2 ~ N(0, sigma^2) in each voxel and contrast.

    In air the mean becomes sigma sqrt(pi / 2), as on a real magnitude image (Gudbjartsson and Patz, MRM 1995).

    Raises:
        ValueError: a severity that is not in the table, no brain, or a brain whose mean intensity is not positive.
    """
    share = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    rng = generator(volume, seed, "noise")
    changed = np.empty_like(volume.voxels)
    for n, (image, mean) in enumerate(zip(volume.voxels, brain_means(volume), strict=True)):
        sigma = np.float32(share * mean)
        real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32), out=changed[n])
    return with_voxels(volume, changed, f"perturbed: Rician noise, sigma {share:.0%} of the brain's mean")
