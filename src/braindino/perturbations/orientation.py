"""Wrong orientation: axes in another order or direction than the header says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Shaped
from nibabel import orientations

from braindino.perturbations import value_at
from braindino.types import Volume

SEVERITIES = ("RAS", "RPS", "RAI", "RPI", "ARS", "SPR")
UNIT = "axis codes in which the voxels truly lie while the header says RAS"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """Reorder the axes of voxels, brain mask and label map to the codes of `SEVERITIES`; the affine stays.

    1 front and back swapped, 2 upside down, 3 both, 4 the first two axes swapped, 5 sagittal slices upside down where
    axial ones are expected. The voxel edges stay with the axes of the header, so a head of unequal edges is stretched
    too, and the shape may change. Mask and labels move along. Nothing is random.

    Raises:
        ValueError: a severity that is not in the table.
    """
    codes = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    ras, wrong = (orientations.axcodes2ornt(tuple(name)) for name in ("RAS", codes))
    change = orientations.ornt_transform(ras, wrong)

    def turned(array: Shaped[np.ndarray, "i j k"]) -> Shaped[np.ndarray, "a b c"]:
        return np.ascontiguousarray(orientations.apply_orientation(array, change))

    return replace(
        volume,
        voxels=np.stack([turned(image) for image in volume.voxels]),
        brain_mask=None if volume.brain_mask is None else turned(volume.brain_mask),
        label_map=None if volume.label_map is None else turned(volume.label_map),
        history=(*volume.history, f"perturbed: voxels lie {codes}, header says RAS"),
    )
