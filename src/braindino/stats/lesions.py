"""Lesion by lesion: the metric of BraTS 2023, written from its description.

A model that finds one large lesion and misses ten small ones scores high voxel by voxel. Here every lesion counts
the same: a missed one and an invented one have Dice 0 and the organisers' penalty of 374 mm (about the diagonal of
their grid of 240 x 240 x 155 mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from braindino.stats.surfaces import dice, hd95_mm

DILATION = 3
"""Voxels by which reference lesions grow."""
LEAST_VOXELS = 50
"""A reference lesion of this many voxels or fewer is not counted."""
RULES = {"meningioma": (1, 50), "metastasis": (1, 2)}
"""Both numbers where the organisers have others than for gliomas, by what the patients have (BraTS 2023)."""
PENALTY_MM = 374.0
TOUCHING = ndimage.generate_binary_structure(3, 3)
"""Voxels that share a corner are of one component."""
GROWTH = ndimage.generate_binary_structure(3, 2)
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Lesionwise:
    """Means over all counted lesions and all invented ones."""

    dice: float
    hd95_mm: float
    found: int
    missed: int
    invented: int


def lesionwise(
    truth: Bool[np.ndarray, "i j k"],
    predicted: Bool[np.ndarray, "_ _ _"],
    spacing_mm: tuple[float, float, float],
    *,
    dilation: int = DILATION,
    least_voxels: int = LEAST_VOXELS,
) -> Lesionwise:
    """Lesion-wise Dice and HD95 (in mm) of one region.

    1. Reference lesions are the 26-connected components of the reference after it has grown by `dilation` voxels
       (18-neighbourhood), cut back to the reference: parts that nearly touch are one lesion.
    2. A predicted component (26-connected) belongs to every lesion whose own growth by `dilation` voxels it touches.
    3. Each lesion is compared with the union of its predicted components; without any it is missed: Dice 0, 374 mm.
    4. Lesions of at most `least_voxels` voxels are not counted, but what was predicted there is not invented either.
    5. Components that belong to no lesion are invented, however small: Dice 0 and 374 mm each.
    6. The score is the sum over counted lesions and invented components, divided by their number.

    Empty rule: nothing to count and nothing invented is perfect, Dice 1 and 0 mm.
    """
    lesions, count = ndimage.label(ndimage.binary_dilation(truth, GROWTH, dilation), TOUCHING)
    lesions = np.where(truth, lesions, 0)
    components, parts = ndimage.label(predicted, TOUCHING)
    boxes = ndimage.find_objects(components)
    matched: set[int] = set()
    overlaps, distances, found = [], [], 0
    for number, box in enumerate(ndimage.find_objects(lesions, count), start=1):
        around = tuple(slice(max(0, side.start - dilation), side.stop + dilation) for side in box)
        near = ndimage.binary_dilation(lesions[around] == number, GROWTH, dilation)
        own = sorted({*np.unique(components[around][near]).tolist()} - {0})
        matched.update(own)
        if int((lesions[box] == number).sum()) <= least_voxels:
            continue
        found += bool(own)
        pair = _pair(lesions, number, components, own, _union([box, *(boxes[n - 1] for n in own)]))
        overlaps.append(dice(*pair) if own else 0.0)
        distances.append(hd95_mm(*pair, spacing_mm) if own else PENALTY_MM)
    invented = parts - len(matched)
    counted = len(overlaps) + invented
    if counted == 0:
        return Lesionwise(1.0, 0.0, 0, 0, 0)
    distance = (sum(distances) + invented * PENALTY_MM) / counted
    return Lesionwise(sum(overlaps) / counted, distance, found, len(overlaps) - found, invented)


def _pair(
    lesions: Int[np.ndarray, "i j k"], number: int, components: Int[np.ndarray, "i j k"], own: list[int], box: Box
) -> tuple[Bool[np.ndarray, "a b c"], Bool[np.ndarray, "a b c"]]:
    return lesions[box] == number, np.isin(components[box], own)


def _union(boxes: list[Box]) -> Box:
    return tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3)
    )
