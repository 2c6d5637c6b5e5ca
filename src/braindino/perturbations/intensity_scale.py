"""Another scale of intensities: the unit of an MR image is arbitrary."""

from __future__ import annotations

import numpy as np

from braindino.perturbations import generator, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (1.0, 1.5, 3.0, 10.0, 100.0, 1000.0)
UNIT = "factor (its inverse for half of the subjects)"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """y = f x in all contrasts, f the factor or its inverse by a coin per subject.

    An encoder whose recipe normalises each scan must not notice.

    Raises:
        ValueError: a severity that is not in the table.
    """
    factor = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    if generator(volume, seed, "intensity_scale").random() < 0.5:
        factor = 1 / factor
    return with_voxels(volume, volume.voxels * np.float32(factor), f"perturbed: intensities times {factor:.3g}")
