"""Overlap and surface distance of regions.

The empty rule, once: both empty is a perfect answer (Dice 1, surface Dice 1, HD95 0 mm). One of the two empty is the
worst answer (Dice 0, surface Dice 0, HD95 the diagonal of the grid in mm, the largest distance that it holds), so a
model never gains by missing a tumour and no case is dropped from a mean. Lesion by lesion it is the same with the
organisers' penalty for the distance, see `stats.lesions`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Integer

from braindino.stats.lesions import DILATION, LEAST_VOXELS, RULES, lesionwise
from braindino.stats.surfaces import TOLERANCE_MM, dice, hd95_of, surface_dice_of, surface_distances_mm


def region_scores(
    truth: Integer[np.ndarray, "i j k"],
    predicted: Integer[np.ndarray, "_ _ _"],
    regions: Mapping[str, tuple[int, ...]],
    spacing_mm: tuple[float, float, float],
    group: str = "",
) -> dict[str, float]:
    """`<region>_<metric>` of each region, a union of labels (whole tumour: 1, 2 and 3).

    Metrics: dice, hd95_mm, surface_dice (at 1 mm), lesionwise_dice, lesionwise_hd95_mm; these two by the rule of
    `group`, what the patient has (`stats.lesions.RULES`), and of gliomas for every other one.
    """
    scores = {}
    dilation, least_voxels = RULES.get(group, (DILATION, LEAST_VOXELS))
    for name, labels in regions.items():
        a, b = np.isin(truth, labels), np.isin(predicted, labels)
        distances = surface_distances_mm(a, b, spacing_mm)
        lesions = lesionwise(a, b, spacing_mm, dilation=dilation, least_voxels=least_voxels)
        scores[f"{name}_dice"] = dice(a, b)
        scores[f"{name}_hd95_mm"] = hd95_of(distances, truth, spacing_mm)
        scores[f"{name}_surface_dice"] = surface_dice_of(distances, TOLERANCE_MM)
        scores[f"{name}_lesionwise_dice"] = lesions.dice
        scores[f"{name}_lesionwise_hd95_mm"] = lesions.hd95_mm
    return scores
