"""Low resolution: large cubic voxels, interpolated onto the fine grid by the scanner."""

from __future__ import annotations

import numpy as np

from braindino.perturbations import coarse, value_at, with_voxels
from braindino.types import Volume
from braindino.volume.resample import resample

SEVERITIES = (0.0, 1.5, 2.0, 3.0, 4.0, 5.0)
UNIT = "edge of the measured voxel in mm (0: as it is)"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """Mean over voxels of `edge` mm along every axis whose voxels are smaller, linear in between, on the same grid.

    Nothing is random.

    Raises:
        ValueError: a severity that is not in the table.
    """
    edge = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    sizes = zip(volume.voxels.shape[1:], volume.spacing_mm, strict=True)
    matrices = [coarse(size, edge / own) if edge > own else np.eye(size, dtype=np.float32) for size, own in sizes]
    changed = np.stack([resample(image, matrices) for image in volume.voxels])
    return with_voxels(volume, changed, f"perturbed: low resolution, voxels of {edge:g} mm")
