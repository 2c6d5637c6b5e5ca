"""Real anatomy to start from: tissue fractions and regions of the MNI152 template, a real head, or label maps."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, distance_transform_edt, gaussian_filter
from scipy.ndimage import label as connected_components

from braindino.volume.io import read_labels, read_volume

TISSUES = ("csf", "grey", "white", "bone", "soft", "vessel")
VENTRICLE, MEDIAL_TEMPORAL, CORTEX, DEEP_WHITE, OTHER_BRAIN = 1, 2, 3, 4, 5
WORK_MM = 1.5
"""Spacing on which anatomies finer than it are kept."""
MNI_BOX = np.array([[-72.0, -107.0, -70.0], [72.0, 75.0, 84.0]])
"""Bounding box of the MNI152 brain in mm: other brains are placed in it to find regions by MNI coordinates."""
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions (sum at most 1; the rest is air) and regions on an axis-aligned RAS grid."""

    name: str
    fractions: Float32[np.ndarray, "tissue i j k"]
    affine: Float[np.ndarray, "4 4"]
    regions: UInt8[np.ndarray, "i j k"]
    """0 outside the brain, else VENTRICLE, MEDIAL_TEMPORAL, CORTEX, DEEP_WHITE or OTHER_BRAIN."""

    @property
    def spacing_mm(self) -> Float[np.ndarray, " 3"]:
        """Edge lengths of a voxel."""
        return np.diag(self.affine)[:3].copy()


def names(folder: Path | None) -> tuple[str, ...]:
    """Names of the anatomies to draw from: the two packaged ones, or the label maps in `folder`, sorted.

    Raises:
        ValueError: no such folder, no `*.nii.gz` in it, or nilearn (which ships the template) is not installed.
    """
    if folder is None:
        if importlib.util.find_spec("nilearn") is None:
            raise ValueError(
                "the MNI152 template comes with nilearn, which is not installed; pip install 'braindino[synthesis]', "
                "or give a folder of label maps"
            )
        return ("mni152", "itk_head")
    found = tuple(sorted(path.name.removesuffix(".nii.gz") for path in Path(folder).glob("*.nii.gz")))
    if not found:
        raise ValueError(f"{folder} holds no label maps; expected a folder of FreeSurfer-style *.nii.gz")
    return found


@lru_cache(maxsize=3)
def load(name: str, folder: Path | None) -> Anatomy:
    """The anatomy called `name`, as given by `names(folder)`."""
    if name not in names(folder):
        raise ValueError(f"no anatomy {name!r}; known: {', '.join(names(folder))}")
    if folder is not None:
        from braindino.synthesis.label_maps import read_label_map

        return read_label_map(Path(folder) / f"{name}.nii.gz")
    return read_mni152() if name == "mni152" else read_itk_head()


def read_mni152() -> Anatomy:
    """The MNI152 2009a template: grey and white matter probabilities, CSF the rest of the brain. No skull.

    Averages over 152 people are blurred, so the probabilities p are sharpened to p^2 / sum p^2.
    Source: Fonov et al., NeuroImage 54 (2011); the files are those of nilearn.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        names(None)
        raise AssertionError
    data = Path(spec.origin).parent / "datasets" / "data"
    template, grey, white = (
        read_volume(data / f"mni_icbm152_{what}_tal_nlin_sym_09a_converted.nii.gz") for what in ("t1", "gm", "wm")
    )
    brain = binary_fill_holes(binary_closing(template.voxels[0] > 0, iterations=2))
    shares = np.stack([np.zeros_like(grey.voxels[0]), grey.voxels[0] / 255, white.voxels[0] / 255]) * brain
    shares[0] = np.clip(brain - shares[1] - shares[2], 0, 1)
    shares = shares**2 / np.maximum((shares**2).sum(0), 1e-6)
    box = bounding_box(brain, margin=2)
    affine = shifted(template.affine, box)
    fractions, affine = resampled(shares[(slice(None), *box)].astype(np.float32), affine, WORK_MM)
    return _from_brain("mni152", fractions, affine, fractions.sum(0) > 0.5)


def read_itk_head() -> Anatomy:
    """The packaged real head with skull. Fractions follow from T1 intensity between the class means of its tissue map.

    Between the mean of CSF and that of grey matter a voxel is taken as a mixture of both, likewise between grey and
    white matter (partial volume). Bone is what lies dark between the scalp and the brain.
    """
    image = read_volume(_DATA / "head_T1w.nii.gz")
    tissue = read_labels(_DATA / "head_tissue.nii.gz", image)
    brain = binary_fill_holes(read_labels(_DATA / "head_brain.nii.gz", image) > 0)
    t1w = image.voxels[0]
    flat = _flattened(t1w, brain)
    means = [float(flat[brain & (tissue == label)].mean()) for label in (4, 5, 6)]
    fractions = np.zeros((len(TISSUES), *t1w.shape), np.float32)
    fractions[:3] = mixture(flat, means) * brain
    dark = (tissue == 1) & ~brain
    inside = binary_fill_holes(binary_closing(np.pad(tissue > 1, 6), iterations=6))[6:-6, 6:-6, 6:-6] & ~brain
    near = distance_transform_edt(~brain, image.spacing_mm) < 16
    soft = np.clip(t1w / 130, 0, 1) * ~brain * (t1w > 8)
    fractions[4] = soft
    fractions[3] = (dark & inside & near) * (1 - soft)
    box = bounding_box(np.asarray(fractions.max(axis=0) > 0), margin=1)
    return _from_brain("itk_head", fractions[(slice(None), *box)].copy(), shifted(image.affine, box), brain[box])


def mixture(values: Float[np.ndarray, "i j k"], means: list[float]) -> Float32[np.ndarray, "tissue i j k"]:
    """Fractions of CSF, grey and white from intensity: linear between neighbouring class means, which must rise."""
    csf, grey, white = means
    low = np.clip((values - csf) / (grey - csf), 0, 1)
    high = np.clip((values - grey) / (white - grey), 0, 1)
    return np.stack([1 - low, low - high, high]).astype(np.float32)


def bounding_box(mask: Bool[np.ndarray, "i j k"], margin: int = 0) -> tuple[slice, slice, slice]:
    """Slices of the smallest box around `mask`, widened by `margin` voxels within the array."""
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, mask.shape[axis])))
    return spans[0], spans[1], spans[2]


def shifted(affine: Float[np.ndarray, "4 4"], box: tuple[slice, slice, slice]) -> Float[np.ndarray, "4 4"]:
    """Axis-aligned affine with the spacing of `affine` and the origin of the cropped array."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    moved = np.diag([*spacing, 1.0])
    moved[:3, 3] = affine[:3, 3] + spacing * [span.start for span in box]
    return moved


def resampled(
    fractions: Float32[np.ndarray, "tissue i j k"], affine: Float[np.ndarray, "4 4"], spacing_mm: float
) -> tuple[Float32[np.ndarray, "tissue a b c"], Float[np.ndarray, "4 4"]]:
    """Area-averaged to `spacing_mm` (never finer than before): partial volume, not interpolation."""
    old = np.diag(affine)[:3]
    new = np.maximum(old, spacing_mm)
    for axis in range(3):
        matrix = area_matrix(fractions.shape[axis + 1], new[axis] / old[axis])
        fractions = np.moveaxis(np.tensordot(matrix, fractions, (1, axis + 1)), 0, axis + 1)
    result = np.diag([*new, 1.0])
    result[:3, 3] = affine[:3, 3] + (new - old) / 2
    return np.ascontiguousarray(fractions, np.float32), result


def area_matrix(size: int, ratio: float) -> Float32[np.ndarray, "new old"]:
    """Row m averages the old voxels within [m ratio, (m + 1) ratio); rows sum to 1."""
    count = max(int(size / ratio), 1)
    edges = np.arange(count)[:, None] * ratio
    lower = np.maximum(np.arange(size)[None], edges)
    upper = np.minimum(np.arange(1, size + 1)[None], edges + ratio)
    weights = np.maximum(upper - lower, 0)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _flattened(image: Float32[np.ndarray, "i j k"], brain: Bool[np.ndarray, "i j k"]) -> Float32[np.ndarray, "i j k"]:
    """Image over its smooth brightness within the brain, same mean: the coil's own shading is taken out."""
    weight = gaussian_filter(brain.astype(np.float32), 12)
    smooth = gaussian_filter(image * brain, 12) / np.maximum(weight, 1e-3)
    return np.asarray(image * image[brain].mean() / np.maximum(smooth, 1.0), np.float32)


def _from_brain(
    name: str,
    fractions: Float32[np.ndarray, "tissue i j k"],
    affine: Float[np.ndarray, "4 4"],
    brain: Bool[np.ndarray, "i j k"],
) -> Anatomy:
    """Find the regions of a brain without labels by its MNI coordinates, and its sagittal sinus."""
    if len(fractions) < len(TISSUES):
        empty = np.zeros((len(TISSUES) - len(fractions), *brain.shape), np.float32)
        fractions = np.concatenate([fractions, empty])
    spacing = np.diag(affine)[:3]
    position = mni_position(brain)
    depth = distance_transform_edt(brain, spacing)
    ventricle = _ventricles(fractions[0], position, depth)
    x, y, z = np.abs(position[0]), position[1], position[2]
    temporal = (((x - 27) / 11) ** 2 + ((y + 20) / 20) ** 2 + ((z + 15) / 10) ** 2) < 1
    cerebral = (z > 2) | ((x > 25) & (y > -38))
    regions = assign_regions(fractions, brain, ventricle, temporal, cerebral, spacing)
    sinus = brain & (x < 4) & (depth < 5) & (z > 0) & (y < 50) & (fractions[0] > 0.3)
    fractions[5] = gaussian_filter(sinus.astype(np.float32), 0.5) * brain
    fractions[:5] *= 1 - fractions[5]
    return Anatomy(name, fractions, affine, regions)


def mni_position(brain: Bool[np.ndarray, "i j k"]) -> Float[np.ndarray, "axis i j k"]:
    """Approximate MNI coordinates in mm of each voxel: the brain's bounding box laid onto that of the template."""
    box = bounding_box(brain)
    axes = [
        MNI_BOX[0, a] + (np.arange(n) - span.start) / (span.stop - 1 - span.start) * (MNI_BOX[1, a] - MNI_BOX[0, a])
        for a, (n, span) in enumerate(zip(brain.shape, box, strict=True))
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _ventricles(
    csf: Float32[np.ndarray, "i j k"], position: Float[np.ndarray, "axis i j k"], depth: Float[np.ndarray, "i j k"]
) -> Bool[np.ndarray, "i j k"]:
    """Connected CSF around the centre, away from the outer surface: lateral and third ventricle with the horns."""
    x, y, z = np.abs(position[0]), position[1], position[2]
    fissure = (x < 4) & ((z > 16) | (y > 22) | (y < -30))
    box = (x < 36) & (y > -60) & (y < 42) & (z > -12) & (z < 30) & ~fissure & (depth > 12)
    insula = (x > 26) & (y > -30)
    pieces, _ = connected_components((csf > 0.5) & box & ~insula)
    centre = (x < 20) & (y > -38) & (y < 28) & (z > 2)
    counts = np.bincount(pieces[centre & (pieces > 0)])
    keep = np.flatnonzero(counts > max(20, 0.05 * counts.max(initial=0)))
    return np.isin(pieces, keep[keep > 0])


def assign_regions(
    fractions: Float32[np.ndarray, "tissue i j k"],
    brain: Bool[np.ndarray, "i j k"],
    ventricle: Bool[np.ndarray, "i j k"],
    temporal: Bool[np.ndarray, "i j k"],
    cerebral: Bool[np.ndarray, "i j k"],
    spacing_mm: Float[np.ndarray, " 3"],
    cortex: Bool[np.ndarray, "i j k"] | None = None,
) -> UInt8[np.ndarray, "i j k"]:
    """One region per voxel; deep white matter is `cerebral` white matter more than 3 mm from its surface.

    Without a label for it, cortex is grey matter farther than 12 mm from the ventricles.
    """
    if cortex is None:
        far = distance_transform_edt(~ventricle, spacing_mm) > 12 if ventricle.any() else brain
        cortex = (fractions[1] > 0.3) & far
    white_depth = distance_transform_edt(fractions[2] > 0.5, spacing_mm)
    regions: Int[np.ndarray, "i j k"] = np.where(brain, OTHER_BRAIN, 0)
    regions[brain & binary_dilation(cortex)] = CORTEX
    regions[brain & cerebral & (white_depth > 3)] = DEEP_WHITE
    regions[brain & temporal] = MEDIAL_TEMPORAL
    regions[brain & ventricle] = VENTRICLE
    return regions.astype(np.uint8)
