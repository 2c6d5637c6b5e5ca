"""Another contrast between tissues: intensities to the power of gamma."""

from __future__ import annotations

import numpy as np

from braindino.perturbations import generator, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
UNIT = "gamma, an exponent (its inverse for half of the subjects)"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """y = low + (high - low) u^g with u = (x - low) / (high - low), low and high the extremes of each contrast.

    g is gamma or 1 / gamma by a coin per subject: darker or brighter grey. Where low is 0, `high` changes only the
    scale of y and not its contrast, so a hot voxel does no harm. The formula is that of MONAI's AdjustContrast.

    Raises:
        ValueError: a severity that is not in the table.
    """
    gamma = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    if generator(volume, seed, "contrast").random() < 0.5:
        gamma = 1 / gamma
    low = volume.voxels.min(axis=(1, 2, 3), keepdims=True)
    span = np.maximum(volume.voxels.max(axis=(1, 2, 3), keepdims=True) - low, np.float32(1e-30))
    changed = low + span * ((volume.voxels - low) / span) ** np.float32(gamma)
    return with_voxels(volume, changed, f"perturbed: contrast, gamma {gamma:.3g}")
