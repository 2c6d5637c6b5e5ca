"""Slices with their label maps, and batches drawn of them: lesions more often, a little changed each time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float16, Int16
from torch import Tensor
from torch.nn import functional as F

from braindino.fitting.scratch import Slices
from braindino.types import Volume
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe

LESION_SHARE = 1 / 3
"""Share of a batch that is drawn from the slices with a lesion, as in nnU-Net."""
CHANGED = 0.5
"""Probability of turning and scaling a slice."""
TURN_DEGREES = 15.0
ZOOM = 0.15
GAIN, SHIFT = 0.1, 0.1
"""Of the intensities of a contrast: factor 1 +- gain, then +- shift in standard deviations of the brain."""
MOST_PX = 2048


@dataclass(frozen=True)
class Picture:
    """One slice in memory."""

    values: Float16[np.ndarray, "channel row column"]
    """All channels of the first contrast come first."""
    labels: Int16[np.ndarray, "row column"]


def whole(volume: Volume, recipe: Recipe) -> Volume:
    """The volume on the grid of `preprocess` with every slice, wider than `size_px` where the brain does not fit in."""
    prepared = preprocess(volume, recipe, every_slice=True)
    while _cut(prepared) and recipe.size_px < MOST_PX:
        recipe = replace(recipe, size_px=min(MOST_PX, recipe.size_px + max(2, recipe.size_px // 2)))
        prepared = preprocess(volume, recipe, every_slice=True)
    return prepared


def _cut(prepared: Volume) -> bool:
    """True where the brain touches the border of the slices."""
    mask = prepared.brain_mask
    assert mask is not None
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def slices_of(
    prepared: Volume,
) -> tuple[Float16[np.ndarray, "slice channel row column"], Int16[np.ndarray, "slice row column"]]:
    """Values and labels of every slice of a prepared volume that has a label map."""
    assert prepared.label_map is not None
    values = to_slices(prepared.voxels).astype(np.float16)
    return values, to_slices(prepared.label_map[None])[:, 0].astype(np.int16)


def draw(slices: Slices, count: int, rng: np.random.Generator) -> list[tuple[Picture, bool]]:
    """`count` slices, each with whether it was taken for its lesion."""
    lesion = slices.lesion
    forced = round(count * LESION_SHARE) if len(lesion) else 0
    places = [*rng.choice(lesion, forced), *rng.integers(len(slices), size=count - forced)]
    return [(Picture(*slices[int(place)]), number < forced) for number, place in enumerate(places)]


def changed(
    picture: Picture, centred: bool, recipe: Recipe, contrasts: int, rng: np.random.Generator | None
) -> tuple[Float[Tensor, "channel row column"], Float[Tensor, "row column"]]:
    """One window of `size_px` of a slice and its labels: mirrored, turned, scaled, brightened as `rng` draws it.

    `rng` None: the middle of the slice as it is. A slice that is larger than the window is cut about a place of the
    lesion where `centred`, else about any place.
    """
    side, size = picture.values.shape[1], recipe.size_px
    values, labels = torch.from_numpy(picture.values).float() - recipe.background, torch.from_numpy(picture.labels)
    turn, zoom, flip, middle = 0.0, 1.0, 1.0, np.zeros(2)
    if rng is not None:
        gain = 1 + rng.uniform(-GAIN, GAIN, contrasts)
        shift = rng.uniform(-SHIFT, SHIFT, contrasts)
        each = len(values) // contrasts
        factor, more = (torch.from_numpy(np.repeat(v, each)).float()[:, None, None] for v in (gain, shift))
        values = torch.where(values != 0, (values + recipe.background) * factor + more - recipe.background, values)
        flip = -1.0 if rng.random() < 0.5 else 1.0
        if rng.random() < CHANGED:
            turn, zoom = np.deg2rad(rng.uniform(-TURN_DEGREES, TURN_DEGREES)), 1 + rng.uniform(-ZOOM, ZOOM)
        middle = _middle(picture, centred, size, rng)
    near = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * zoom * size / side
    near[:, 0] *= flip
    theta = torch.tensor(np.concatenate([near, middle[:, None]], 1)[None], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 1, size, size], align_corners=False)
    moved = F.grid_sample(values[None], grid, align_corners=False)[0] + recipe.background
    known = F.grid_sample(labels[None, None].float(), grid, mode="nearest", align_corners=False)[0, 0]
    return moved, known


def _middle(picture: Picture, centred: bool, size: int, rng: np.random.Generator) -> np.ndarray:
    """Column and row of the window's middle, as `affine_grid` counts them: -1 to 1 over the slice."""
    side = picture.values.shape[1]
    if side <= size:
        return np.zeros(2)
    place = rng.integers(side, size=2)
    if centred:
        place = np.array(rng.choice(np.argwhere(picture.labels)))
    kept = np.clip(place, size / 2, side - size / 2)
    return np.asarray((2 * kept / side - 1)[::-1])


def windows(side: int, size: int) -> list[int]:
    """First pixels of windows of `size` that cover `side` pixels and overlap by half or more."""
    if side <= size:
        return [0]
    count = -(-(side - size) // (size // 2)) + 1
    return [round(place) for place in np.linspace(0, side - size, count)]


def importance(size: int) -> Float[Tensor, "row column"]:
    """Weight of each pixel of a window: a normal distribution about its middle with deviation size / 8, at least 1e-3.

    As the sliding windows of nnU-Net and MONAI.
    """
    place = (torch.arange(size) - (size - 1) / 2) / (size / 8)
    bell = torch.exp(-(place**2) / 2)
    return (bell[:, None] * bell[None]).clamp_min(1e-3)
