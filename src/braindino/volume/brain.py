"""Where the brain is: the given mask, else an already stripped image, else an extractor.

The built-in extractor is plain morphology (threshold, opening, connected component), good enough to centre and
normalise a T1-weighted head. Where it matters bring a mask, or let the recipe name deepbet, HD-BET or SynthStrip.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from braindino.types import Volume
from braindino.volume.extractors import run_extractor

STRIPPED_ML = (500.0, 2300.0)
"""Volume of the non-zero part of a skull-stripped image; a head with its skull is larger."""
STRIPPED_SHARE = 0.3
"""Least share of voxels that have exactly the background value in a skull-stripped image."""
WORKING_MM = 2.0
RADII_MM = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0)
CLOSING_MM = 8.0


def brain_mask(volume: Volume, extractor: str = "builtin") -> tuple[Bool[np.ndarray, "i j k"], str]:
    """The brain mask of `volume` and a sentence that says where it comes from.

    A given mask comes first, then that of an already stripped image, then the recipe's `brain_extractor`.

    Raises:
        ValueError: the given mask is empty, or the extractor is missing, fails or finds no brain.
    """
    if volume.brain_mask is not None:
        if not volume.brain_mask.any():
            raise ValueError("the given brain mask is empty")
        return volume.brain_mask, "brain mask given"
    stripped = stripped_mask(volume)
    if stripped is not None:
        return stripped, "already skull-stripped: mask is every voxel that differs from the background"
    if extractor == "builtin":
        return extract(volume.voxels[0], volume.spacing_mm), "brain mask by the built-in extractor"
    return run_extractor(volume, extractor), f"brain mask by {extractor}"


def stripped_mask(volume: Volume) -> Bool[np.ndarray, "i j k"] | None:
    """Mask of an already skull-stripped image, or None where the skull seems to be there.

    Stripped means: at least `STRIPPED_SHARE` of the voxels have exactly the value of the corner voxels, and the
    largest connected rest, holes filled, has a brain's volume.
    """
    image = volume.voxels[0]
    corners = image[:: image.shape[0] - 1 or 1, :: image.shape[1] - 1 or 1, :: image.shape[2] - 1 or 1]
    background = np.median(corners)
    rest = image != background
    if rest.mean() > 1 - STRIPPED_SHARE or not rest.any():
        return None
    mask = ndimage.binary_fill_holes(_largest(rest))
    millilitres = float(mask.sum()) * float(np.prod(volume.spacing_mm)) / 1000
    return mask if STRIPPED_ML[0] <= millilitres <= STRIPPED_ML[1] else None


def extract(image: Float[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]) -> Bool[np.ndarray, "i j k"]:
    """Brain mask of a T1-weighted head with its skull.

    On a 2 mm grid: Otsu's threshold, then opening by balls of growing radius. While the brain still hangs on scalp
    and eyes by bridges the largest component is the whole head; at the radius where the bridges break its volume
    falls at once. The brain is the component after the largest relative fall, grown back by the radius within the
    tissue, closed by 8 mm, holes filled.

    Raises:
        ValueError: the component left is not of a brain's volume (500 to 2300 ml).
    """
    zoom = np.asarray(spacing_mm) / WORKING_MM
    small = ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest")
    tissue = ndimage.gaussian_filter(small, 0.5) > _otsu(small)
    depth = ndimage.distance_transform_edt(tissue) * WORKING_MM
    opened = [_opened(tissue, depth, radius) for radius in RADII_MM]
    sizes = np.array([part.sum() for part in opened], float)
    broken = 1 + int(np.argmin(sizes[1:] / np.maximum(sizes[:-1], 1)))
    brain = _close(opened[broken], CLOSING_MM)
    millilitres = brain.sum() * WORKING_MM**3 / 1000
    if not STRIPPED_ML[0] <= millilitres <= STRIPPED_ML[1]:
        raise ValueError(
            f"the built-in extractor finds no brain (a part of {millilitres:.0f} ml); "
            "give a brain mask, or choose another recipe.brain_extractor (deepbet, hd-bet, synthstrip)"
        )
    return _back(brain, image.shape)


def _opened(
    tissue: Bool[np.ndarray, "a b c"], depth: Float[np.ndarray, "a b c"], radius_mm: float
) -> Bool[np.ndarray, "a b c"]:
    """The thickest component of `tissue` opened by a ball of `radius_mm`."""
    core = _central(depth > radius_mm, depth)
    if not core.any():
        return core
    grown = ndimage.distance_transform_edt(~core) * WORKING_MM <= radius_mm + WORKING_MM
    return np.asarray(grown & tissue)


def _otsu(values: Float[np.ndarray, ...]) -> float:
    """The threshold that maximises the variance between the two classes (Otsu 1979), on 256 bins."""
    top = float(np.percentile(values, 99.5))
    counts, edges = np.histogram(values, bins=256, range=(float(values.min()), top))
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts) / max(counts.sum(), 1)
    moment = np.cumsum(counts * centres) / max(counts.sum(), 1)
    between = (moment[-1] * weight - moment) ** 2 / np.maximum(weight * (1 - weight), 1e-12)
    return float(centres[int(np.argmax(between))])


def _largest(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def _central(mask: Bool[np.ndarray, "i j k"], depth: Float[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """The component with the largest sum of squared depth: large and thick, as the brain is and scalp is not."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sums = ndimage.sum_labels(depth**2, labels, np.arange(1, count + 1))
    return np.asarray(labels == 1 + int(np.argmax(sums)))


def _close(mask: Bool[np.ndarray, "i j k"], radius_mm: float) -> Bool[np.ndarray, "i j k"]:
    padding = int(np.ceil(radius_mm / WORKING_MM)) + 1
    padded = np.pad(mask, padding)
    dilated = ndimage.distance_transform_edt(~padded) * WORKING_MM <= radius_mm
    closed = ndimage.distance_transform_edt(dilated) * WORKING_MM > radius_mm
    inner = tuple(slice(padding, -padding) for _ in range(3))
    return np.asarray(ndimage.binary_fill_holes(closed | padded)[inner])


def _back(mask: Bool[np.ndarray, "a b c"], shape: tuple[int, ...]) -> Bool[np.ndarray, "i j k"]:
    zoom = [new / old for new, old in zip(shape, mask.shape, strict=True)]
    return np.asarray(ndimage.zoom(mask.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest") > 0.5)
