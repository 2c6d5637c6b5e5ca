"""FreeSurfer-style label maps of real heads as anatomies: fifty structures to six tissues and the regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.ndimage import binary_dilation

from braindino.synthesis.anatomy import (
    TISSUES,
    WORK_MM,
    Anatomy,
    assign_regions,
    bounding_box,
    resampled,
    shifted,
)
from braindino.volume.io import read_labels, read_volume

NECK_MM = 45.0
"""Kept below the lowest brain voxel; the rest of the neck is cut off."""

MIXTURES: dict[tuple[float, ...], tuple[int, ...]] = {
    (1, 0, 0, 0, 0, 0): (4, 5, 14, 15, 24, 43, 44, 72, 502, 506),
    (0, 1, 0, 0, 0, 0): (3, 8, 17, 18, 42, 47, 53, 54, 136, 163),
    (0, 0, 1, 0, 0, 0): (2, 7, 25, 41, 46, 57, 85, 137, 164),
    (0, 0.15, 0.85, 0, 0, 0): (16,),
    (0, 0.85, 0.15, 0, 0, 0): (11, 12, 26, 50, 51, 58),
    (0, 0.6, 0.4, 0, 0, 0): (10, 28, 49, 60),
    (0, 0.3, 0.7, 0, 0, 0): (13, 52),
    (0, 0, 0, 0.4, 0.6, 0): (507, 509),
    (0, 0, 0, 1, 0, 0): (515,),
    (0, 0, 0, 0.55, 0.45, 0): (516,),
    (0, 0, 0, 0, 0, 1): (30, 62, 514),
}
"""Shares of `TISSUES` to labels. Other labels from 500 up are soft tissue (skin, muscle, mucosa)."""
VENTRICLES = (4, 5, 14, 43, 44)
TEMPORAL = (17, 18, 53, 54)
CORTICAL = (3, 42)
CEREBRAL_WHITE = (2, 41)


def read_label_map(path: Path) -> Anatomy:
    """Read one label map; fractions are area averages of the labels at `WORK_MM`.

    Raises:
        ValueError: a label below 500 that is in no table here, no brain, no ventricle or no hippocampus in it; or as
            `volume.io.read_volume`.
    """
    image = read_volume(path)
    labels = read_labels(path, image)
    unknown = sorted(
        set(np.unique(labels).tolist()) - set(range(500, 1000)) - {0} - {v for m in MIXTURES.values() for v in m}
    )
    if unknown:
        raise ValueError(
            f"{path}: labels {unknown} are not FreeSurfer-style brain labels known here; relabel or set them to 0"
        )
    if not (np.isin(labels, VENTRICLES).any() and np.isin(labels, TEMPORAL).any()):
        raise ValueError(
            f"{path}: no ventricle (4, 43) or no hippocampus (17, 53); expected a FreeSurfer-style label map"
        )
    labels, affine = _cropped(labels, image.affine)
    fractions, small = resampled(_shares(labels), affine, WORK_MM)
    masks = np.stack([np.isin(labels, v) for v in (VENTRICLES, TEMPORAL, CORTICAL, CEREBRAL_WHITE)] + [_brain(labels)])
    coarse, _ = resampled(masks.astype(np.float32), affine, WORK_MM)
    ventricle, temporal, _, cerebral, brain = coarse > 0.5
    cortex = coarse[2] > 0.25
    temporal = binary_dilation(temporal, iterations=2)
    regions = assign_regions(fractions, brain, ventricle, temporal, cerebral, np.diag(small)[:3], cortex)
    return Anatomy(path.name.removesuffix(".nii.gz"), fractions, small, regions)


def _brain(labels: Int[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    return (labels > 0) & (labels < 500)


def _cropped(
    labels: Int[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> tuple[Int[np.ndarray, "a b c"], Float[np.ndarray, "4 4"]]:
    """Within the box of the head, without the lower neck."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    bottom = bounding_box(_brain(labels))[2].start - int(NECK_MM / spacing[2])
    i, j, k = bounding_box(labels > 0, margin=6)
    box = (i, j, slice(max(k.start, bottom), k.stop))
    return labels[box], shifted(affine, box)


def _shares(labels: Int[np.ndarray, "i j k"]) -> Float32[np.ndarray, "tissue i j k"]:
    table = np.zeros((len(TISSUES), 1000), np.float32)
    table[TISSUES.index("soft"), 500:] = 1
    for shares, values in MIXTURES.items():
        table[:, list(values)] = np.array(shares)[:, None]
    return table[:, labels]
