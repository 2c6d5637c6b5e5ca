"""Thick slices: the axial slices of a clinical scan, interpolated onto the fine grid."""

from __future__ import annotations

import numpy as np

from braindino.perturbations import coarse, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (0.0, 2.0, 3.0, 4.0, 5.0, 7.0)
UNIT = "thickness of an axial slice in mm (0: as it is)"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """Mean over slabs of `thickness` mm along the third axis, linear in between, on the same grid.

    Slices that are as thick already stay as they are. Nothing is random.

    Raises:
        ValueError: a severity that is not in the table.
    """
    thickness = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    told = f"perturbed: slices of {thickness:g} mm"
    if thickness <= volume.spacing_mm[2]:
        return with_voxels(volume, volume.voxels, f"{told} (thicker already, left as they are)")
    matrix = coarse(volume.voxels.shape[3], thickness / volume.spacing_mm[2])
    return with_voxels(volume, np.asarray(volume.voxels @ matrix.T, np.float32), told)
