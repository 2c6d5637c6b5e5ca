"""Left and right swapped: the image is mirrored and the header does not say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindino.perturbations import value_at
from braindino.types import Volume

SEVERITIES = (0, 1, 1, 1, 1, 1)
UNIT = "mirrored (1) or not (0): severities 1 to 5 are the same"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """Reverse the first axis of voxels, brain mask and label map; the affine stays, which is the fault.

    Mask and labels are mirrored too since they are drawn on what is seen: a lesion stays under its label, on the side
    on which the image shows it. What a task asks of the whole head (age, diagnosis) has the same answer; an answer that
    names a side would be wrong. Nothing is random.

    Raises:
        ValueError: a severity that is not in the table.
    """
    value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    return replace(
        volume,
        voxels=np.ascontiguousarray(volume.voxels[:, ::-1]),
        brain_mask=None if volume.brain_mask is None else np.ascontiguousarray(volume.brain_mask[::-1]),
        label_map=None if volume.label_map is None else np.ascontiguousarray(volume.label_map[::-1]),
        history=(*volume.history, "perturbed: left and right swapped, header kept"),
    )
