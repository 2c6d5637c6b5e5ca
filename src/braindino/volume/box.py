"""How a whole volume becomes the box that a 3-D encoder takes: axis order, spacing, extent, size, intensities.

The `Recipe` of slices and the `BoxRecipe` of boxes are the two kinds of an encoder's `recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32
from nibabel import orientations
from scipy.ndimage import affine_transform

from braindino.config import to_dict
from braindino.record import digest
from braindino.types import Volume
from braindino.volume.brain import brain_mask
from braindino.volume.preprocess import grid_affine, nearest
from braindino.volume.quality import quality, require
from braindino.volume.recipe import Limits, Recipe, check_extractor
from braindino.volume.resample import bounding_box, interpolation, resample

Intensity = Literal["zscore", "min_max", "percentile", "paper"]
Triple = tuple[int, int, int]
LEAST_BRAIN = 0.5
"""A box that holds less than this share of the brain is refused: it shows something else."""


@dataclass(frozen=True)
class BoxRecipe:
    """What a 3-D encoder expects.

    Steps: brain, orientation, spacing, extent, size, intensities, padding (the intensities `paper` before spacing).
    """

    size: Triple
    """Voxels along each axis of the box, in the order of `orientation`; with `size_rule` "multiple" what each side is
    a multiple of."""
    size_rule: Literal["resize", "centre", "multiple"]
    """`resize`: what is shown is stretched to `size` by trilinear interpolation, edge to edge, as torch's `interpolate`
    does without aligned corners and without antialiasing (BrainIAC, and every 3-D baseline of the BrainDINO paper).
    `centre`: cut about the middle of the array, padded where it is smaller (BM-MAE). `multiple`: padded (BrainMVP)."""
    intensity: Intensity
    """x' of each contrast by itself; padding is 0 afterwards.
    `zscore`: (x - mean) / sd over voxels other than 0, which stay 0 (BrainIAC v2, BM-MAE).
    `min_max`: (x - min) / (max - min) over all voxels (BrainIAC v1).
    `percentile`: (x - a) / (b - a), clipped to [0, 1]; a, b the 5th and 95th percentile of all voxels (BrainMVP).
    `paper`: x clipped to a, b, the 1st and 99th percentile of voxels > 0, then (x - mean) / sd of the same voxels, for
    the background too and before any resampling (the loader that the BrainDINO paper gives every baseline)."""
    orientation: str = "RAS"
    """Where the three axes of the box point to, for instance "LPS" for the order that BraTS stores (BM-MAE), "SRA" for
    slices first. Published 3-D encoders ignore the affine, so what they saw is the order of their files."""
    spacing_mm: float | None = 1.0
    """Edge of the voxels to resample to first, in mm (linear, antialiased); None: the scan's own grid."""
    extent: Literal["whole", "foreground"] | tuple[float, float, float] = "whole"
    """What of the scan is shown. `whole`: all of it. `foreground`: the bounding box of voxels > 0 in any contrast
    (BrainMVP). Three lengths: so many mm along each axis about the middle of the brain's bounding box, which stands in
    for an alignment to a template of these sides (BrainIAC)."""
    brain: Literal["mask", "none"] = "mask"
    """`mask`: voxels outside of the brain become 0 before anything else. `none`: they stay."""
    brain_extractor: str = "builtin"
    """Where no mask is given, as in `Recipe`."""
    brain_ml: tuple[float, float] = (300.0, 2500.0)
    """Brain volumes outside these bounds, in ml, are refused, as in `Recipe`."""
    limits: Limits = field(default_factory=Limits)
    """What is refused as too poor: the same scans as for our own encoder, so that all are judged on the same cases."""

    def __post_init__(self) -> None:
        if not all(1 <= side <= 1024 for side in self.size):
            raise ValueError(f"box recipe: size is {self.size}, expected three sides of 1 to 1024 voxels")
        if self.spacing_mm is not None and not 0.2 <= self.spacing_mm <= 10:
            raise ValueError(f"box recipe: spacing_mm is {self.spacing_mm}, expected 0.2 to 10 mm, or None")
        axes = {frozenset(pair): n for n, pair in enumerate(("RL", "AP", "IS"))}
        if len(self.orientation) != 3 or len({n for pair, n in axes.items() if pair & set(self.orientation)}) != 3:
            raise ValueError(
                f"box recipe: orientation is {self.orientation!r}, expected one of R or L, one of A or P and one of "
                "S or I, in any order"
            )
        if not isinstance(self.extent, str) and not all(10 <= side <= 1000 for side in self.extent):
            raise ValueError(f"box recipe: extent is {self.extent}, expected three lengths of 10 to 1000 mm")
        check_extractor(self.brain_extractor)

    def hash(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        return digest(to_dict(self))[:12]


def to_box(volume: Volume, recipe: BoxRecipe) -> Volume:
    """The box that a 3-D encoder takes.

    Args:
        volume: in RAS, as `read_volume` gives it.
        recipe: the encoder's.

    Returns:
        A volume whose `voxels` (contrast, x, y, z) float32 run along the axes of `recipe.orientation`; its `affine`
        takes their indices to the scan's world in mm. Brain mask, label map (nearest neighbour), quality and history
        go with it.

    Raises:
        ValueError: no brain mask, a scan beyond `brain_ml` or `limits`, no variation of intensity, or a box that holds
            less than half of the brain.
    """
    mask, told = brain_mask(volume, recipe.brain_extractor)
    found = quality(volume, mask)
    require(found, Recipe(brain_ml=recipe.brain_ml, limits=recipe.limits))
    voxels = volume.voxels * mask if recipe.brain == "mask" else volume.voxels
    box = _turned(replace(volume, voxels=voxels, brain_mask=mask), recipe.orientation)
    if recipe.intensity == "paper":
        box = _scaled(box, "paper")
    if recipe.spacing_mm is not None:
        box = _spaced(box, recipe.spacing_mm)
    box = _shown(box, recipe)
    if recipe.size_rule == "resize":
        box = _resized(box, recipe.size)
    elif recipe.size_rule == "centre":
        box = _cut(box, recipe.size)
    share = _brain_ml(box) / found.brain_ml
    if share < LEAST_BRAIN:
        raise ValueError(
            f"a box of {' x '.join(map(str, box.voxels.shape[1:]))} voxels about the middle of the scan holds "
            f"{share:.0%} of the brain (at least {LEAST_BRAIN:.0%}); crop the scan to the head, or take a variant that "
            "is centred on the brain"
        )
    if recipe.intensity != "paper":
        box = _scaled(box, recipe.intensity)
    if recipe.size_rule != "resize":
        box = _padded(box, recipe)
    sides = " x ".join(map(str, box.voxels.shape[1:]))
    sentence = f"box recipe {recipe.hash()}: {sides} voxels along {recipe.orientation}, {share:.0%} of the brain"
    return replace(box, quality=found, history=(*volume.history, told, sentence))


def patch_affine(affine: Float[np.ndarray, "4 4"], patch: int, first: float | None = None) -> Float[np.ndarray, "4 4"]:
    """Index of a patch to the world position of its centre, in mm.

    Args:
        affine: of the box (`Tokens.prepared`).
        patch: voxels from one patch to the next, along each axis.
        first: voxel on which the first patch is centred; None: the middle of voxels 0 to `patch` - 1.
    """
    index = np.diag([patch, patch, patch, 1.0])
    index[:3, 3] = (patch - 1) / 2 if first is None else first
    return np.asarray(affine @ index)


def restore_patches(
    maps: Float[np.ndarray, "n x y z"], patches: Float[np.ndarray, "4 4"], original: Volume
) -> Float32[np.ndarray, "n i j k"]:
    """Carry maps of one number per patch to the grid of the scan, linearly; beyond the outermost patches theirs.

    Args:
        maps: in the order of the patch tokens.
        patches: their affine (see `patch_affine`).
        original: the volume that was encoded.
    """
    inverse = np.linalg.inv(patches) @ original.affine
    shape = original.voxels.shape[1:]
    return np.stack(
        [affine_transform(m.astype(np.float32), inverse, output_shape=shape, order=1, mode="nearest") for m in maps]
    )


def _turned(volume: Volume, codes: str) -> Volume:
    """Flips and axis swaps from RAS to other axis codes; no voxel is interpolated."""
    change = orientations.ornt_transform(
        orientations.axcodes2ornt(("R", "A", "S")), orientations.axcodes2ornt(tuple(codes))
    )

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(orientations.apply_orientation(array, change))

    return replace(
        volume,
        voxels=np.stack([turn(image) for image in volume.voxels]),
        affine=volume.affine @ orientations.inv_ornt_aff(change, volume.voxels.shape[1:]),
        brain_mask=None if volume.brain_mask is None else turn(volume.brain_mask),
        label_map=None if volume.label_map is None else turn(volume.label_map),
    )


def _spaced(volume: Volume, spacing_mm: float) -> Volume:
    """Voxels of `spacing_mm` over the same field of view."""
    centres, widths = [], []
    for size, step in zip(volume.voxels.shape[1:], volume.spacing_mm, strict=True):
        width = spacing_mm / step
        count = max(1, round(size / width))
        offset = (np.arange(count) - (count - 1) / 2) * width
        centres.append((size - 1) / 2 + offset)
        widths.append(width)
    if all(abs(width - 1) < 1e-3 for width in widths):
        return volume
    return _sampled(volume, centres, widths, hold=True)


def _shown(volume: Volume, recipe: BoxRecipe) -> Volume:
    if recipe.extent == "whole":
        return volume
    if recipe.extent == "foreground":
        above = np.any(volume.voxels > 0, axis=0)
        if not above.any():
            raise ValueError("no voxel is above 0, so there is no foreground to crop to")
        return _sampled(volume, [np.arange(part.start, part.stop) for part in bounding_box(np.asarray(above))])
    assert volume.brain_mask is not None
    centres = []
    for part, length, step in zip(bounding_box(volume.brain_mask), recipe.extent, volume.spacing_mm, strict=True):
        count = max(1, round(length / step))
        start = (part.start + part.stop - count + 1) // 2
        centres.append(start + np.arange(count))
    return _sampled(volume, centres)


def _resized(volume: Volume, size: Triple) -> Volume:
    """Centres at (n + 1/2) old / new - 1/2; plain linear interpolation."""
    places = zip(size, volume.voxels.shape[1:], strict=True)
    return _sampled(volume, [(np.arange(new) + 0.5) * old / new - 0.5 for new, old in places], hold=True)


def _cut(volume: Volume, size: Triple) -> Volume:
    """From max(old // 2 - new // 2, 0) on, as MONAI's CenterSpatialCrop; what is smaller stays."""
    starts = [max(old // 2 - new // 2, 0) for new, old in zip(size, volume.voxels.shape[1:], strict=True)]
    kept = [min(new, old) for new, old in zip(size, volume.voxels.shape[1:], strict=True)]
    return _sampled(volume, [start + np.arange(count) for start, count in zip(starts, kept, strict=True)])


def _padded(volume: Volume, recipe: BoxRecipe) -> Volume:
    """Zeros on both sides, the odd one at the end."""
    centres = []
    for side, old in zip(recipe.size, volume.voxels.shape[1:], strict=True):
        new = -(-old // side) * side if recipe.size_rule == "multiple" else side
        centres.append(np.arange(new) - (new - old) // 2)
    return _sampled(volume, centres)


def _sampled(
    volume: Volume, centres: list[np.ndarray], widths: Sequence[float] = (1.0, 1.0, 1.0), *, hold: bool = False
) -> Volume:
    """Images and mask by linear interpolation, labels by the nearest, at voxel coordinates along each axis.

    Outside of the array lies 0, or with `hold` the outermost voxel.
    """
    sizes = volume.voxels.shape[1:]
    if all(np.array_equal(centre, np.arange(size)) for centre, size in zip(centres, sizes, strict=True)):
        return volume
    read = [np.clip(c, 0, n - 1) if hold else c for c, n in zip(centres, sizes, strict=True)]
    matrices = [interpolation(c.astype(float), n, w) for c, n, w in zip(read, sizes, widths, strict=True)]
    return replace(
        volume,
        voxels=np.stack([resample(image, matrices) for image in volume.voxels]),
        affine=grid_affine(volume.affine, centres),
        brain_mask=None if volume.brain_mask is None else resample(volume.brain_mask, matrices) > 0.5,
        label_map=None if volume.label_map is None else nearest(volume.label_map, read),
    )


def _scaled(volume: Volume, rule: Intensity) -> Volume:
    return replace(volume, voxels=np.stack([_intensity(image, rule) for image in volume.voxels]))


def _intensity(image: Float[np.ndarray, "x y z"], rule: Intensity) -> Float32[np.ndarray, "x y z"]:
    """One contrast by one of the rules of `BoxRecipe.intensity`.

    Raises:
        ValueError: the voxels that the rule looks at do not vary.
    """
    x = image.astype(np.float64)
    chosen = {"zscore": x != 0, "paper": x > 0}.get(rule, np.ones(x.shape, bool))
    seen = x[chosen]
    if len(seen) and rule in ("percentile", "paper"):
        low, high = np.percentile(seen, (5, 95) if rule == "percentile" else (1, 99))
        x = np.clip(x, low, high)
        seen = x[chosen]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 0.0)
    if not high - low > 1e-6 * max(abs(low), abs(high), 1e-12):
        raise ValueError(f"intensities for the rule {rule!r} do not vary; is the image empty, or its mask wrong?")
    if rule in ("min_max", "percentile"):
        return np.asarray((x - low) / (high - low), np.float32)
    scaled = (x - seen.mean()) / seen.std()
    return np.asarray(np.where(chosen, scaled, 0) if rule == "zscore" else scaled, np.float32)


def _brain_ml(volume: Volume) -> float:
    assert volume.brain_mask is not None
    return float(volume.brain_mask.sum() * abs(np.linalg.det(volume.affine[:3, :3]))) / 1000
