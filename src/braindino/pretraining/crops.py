"""Multi-crop of MR slices with OpenCV in float32: geometry on foreground, and what acts on the slice before it is cut.

A slice may have several channels (itself between its neighbours, of one scan): geometry and intensity parameters are
drawn once for all of them, noise for each. Every crop is a function of a numpy generator that the caller seeds by
(seed, step, sample): no hidden state. What is done to intensities after the cut stands in `intensities`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from braindino.pretraining.config import CropConfig
from braindino.pretraining.intensities import Image, distort, ghosted, share_of_range

Part = Float32[np.ndarray, "channel height width"]
Crop = Float32[np.ndarray, "channel side side"]
TRIES = 10
ASPECT = math.log(4 / 3)
"""Largest log of a crop's width over its height, either way."""
COARSEST = (1.5, 4.0)
"""Range of the factor by which a pixel grows along one axis: from just visible to slices of 4 mm beside 1 mm."""


@dataclass(frozen=True)
class Crops:
    """The crops of one slice."""

    global_crops: Float32[np.ndarray, "2 channel large large"]
    local_crops: Float32[np.ndarray, "local channel small small"]
    gram_crops: Float32[np.ndarray, "anchored channel gram gram"]
    """Same geometry as the global crops, no distortion of intensities; none unless they are asked for."""


def counts_and_sides(config: CropConfig, *, gram: bool) -> tuple[tuple[int, int], ...]:
    """How many global, local and Gram crops a slice has, each with their side in pixels."""
    sides = config.global_px, config.local_px, config.gram_px or config.global_px
    return tuple(zip((2, config.local_count, 2 * gram), sides, strict=True))


def multi_crop(
    image: Image,
    background: float,
    config: CropConfig,
    rng: np.random.Generator,
    *,
    gram: bool = False,
    into: Crops | None = None,
) -> Crops:
    """Two global, `local_count` local and, with `gram`, two Gram crops of one normalised slice.

    Each is a random resized crop (area share within the scale, aspect 3/4 to 4/3, antialiased), drawn again until it
    holds `least_foreground` of brain, then flipped, then distorted in intensity. Brain is that of the middle channel,
    the slice itself: so a share means the same, and the same windows are drawn, with neighbours and without. With
    `into` the crops are written where they belong in a batch, in place of new memory.
    """
    u, channels = share_of_range(image, background), len(image)
    foreground = cv2.integral((u[channels // 2] > 0).view(np.uint8))

    def fill(crop: Crop, scale: tuple[float, float], blur: float, invert: float) -> Window:
        window = _window(foreground, scale, config, rng)
        part = window.of(ghosted(u, rng) if rng.random() < config.ghosting else u)
        if rng.random() < config.low_resolution:
            part = _coarser(part, crop.shape[1], rng)
        _resize(part, crop, window.flipped)
        distort(crop, background, config, rng, blur=blur, invert=invert)
        return window

    shapes = counts_and_sides(config, gram=gram)
    crops = into or Crops(*(np.empty((count, channels, side, side), np.float32) for count, side in shapes))
    for number, crop in enumerate(crops.global_crops):
        window = fill(crop, config.global_scale, config.blur[number], config.invert * number)
        if gram:
            _resize(window.of(image), crops.gram_crops[number], window.flipped)
    for crop in crops.local_crops:
        fill(crop, config.local_scale, config.blur[2], 0.0)
    return crops


@dataclass(frozen=True)
class Window:
    """Where a crop is cut: top row, left column, height, width, and whether it is flipped left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool

    def of(self, image: Image) -> Part:
        """The part of a slice that is seen through it, not yet flipped."""
        return image[:, self.top : self.top + self.height, self.left : self.left + self.width]


def _window(foreground: np.ndarray, scale: tuple[float, float], config: CropConfig, rng: np.random.Generator) -> Window:
    """Draw windows until one holds enough foreground (an integral image); the best of `TRIES` otherwise."""
    rows, columns = foreground.shape[0] - 1, foreground.shape[1] - 1
    best, best_share = (0, 0, rows, columns), -1.0
    flip, *draws = rng.random(1 + 4 * TRIES).tolist()
    for number in range(0, len(draws), 4):
        size, shape, down, across = draws[number : number + 4]
        area = rows * columns * (scale[0] + (scale[1] - scale[0]) * size)
        aspect = math.exp(ASPECT * (2 * shape - 1))
        height = min(max(round(math.sqrt(area / aspect)), 1), rows)
        width = min(max(round(math.sqrt(area * aspect)), 1), columns)
        top, left = int(down * (rows - height + 1)), int(across * (columns - width + 1))
        bottom, right = top + height, left + width
        count = foreground[bottom, right] - foreground[top, right] - foreground[bottom, left] + foreground[top, left]
        share = int(count) / (height * width)
        if share > best_share:
            best, best_share = (top, left, height, width), share
        if share >= config.least_foreground:
            break
    return Window(*best, flipped=flip < config.flip)


def _resize(part: Part, crop: Crop, flipped: bool) -> None:
    """Resize to the crop (area average along an axis that shrinks, cubic along one that grows), flip."""
    (rows, columns), side = part.shape[1:], crop.shape[1]
    shrunk, both = (min(columns, side), min(rows, side)), (side, side)
    for channel, whole in zip(part, crop, strict=True):
        if shrunk == both:
            cv2.resize(channel, both, dst=whole, interpolation=cv2.INTER_AREA)
        else:
            if shrunk != (columns, rows):
                channel = cv2.resize(channel, shrunk, interpolation=cv2.INTER_AREA)
            cv2.resize(channel, both, dst=whole, interpolation=cv2.INTER_CUBIC)
        if flipped:
            cv2.flip(whole, 1, dst=whole)


def _coarser(part: Part, side: int, rng: np.random.Generator) -> Float32[np.ndarray, "channel fewer few"]:
    """As if pixels had been longer along one axis, rows or columns: averaged to fewer, which `_resize` enlarges.

    The factor is on the pixels of the slice or of the crop, whichever are longer, so that it always shows.
    """
    (rows, columns), along_rows = part.shape[1:], rng.random() < 0.5
    factor = COARSEST[0] + (COARSEST[1] - COARSEST[0]) * rng.random()
    fewer = math.ceil(min(rows if along_rows else columns, side) / factor)
    size = (columns, fewer) if along_rows else (fewer, rows)
    return np.stack([cv2.resize(channel, size, interpolation=cv2.INTER_AREA) for channel in part])
