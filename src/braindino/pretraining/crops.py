"""Multi-crop of MR slices with OpenCV in float32: geometry on foreground, intensities as scanners vary them.

A slice may have several channels (itself between its neighbours, of one scan): geometry and intensity parameters are
drawn once for all of them, noise for each. Every crop is a function of a numpy generator that the caller seeds by
(seed, step, sample): no hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from braindino.pretraining.config import CropConfig

Image = Float32[np.ndarray, "channel row column"]
TRIES = 10
TOP = 3.0
"""Standard deviations above the brain's mean that map to intensity 1; the background maps to 0."""
ASPECT = (3 / 4, 4 / 3)
BLUR_REFERENCE_PX = 224
LEAST_BLUR_PX = 0.3
"""A smaller sigma changes nothing on a pixel grid, and a blur that changes nothing is none."""


@dataclass(frozen=True)
class Crops:
    """The crops of one slice."""

    global_crops: Float32[np.ndarray, "2 channel large large"]
    local_crops: Float32[np.ndarray, "local channel small small"]
    gram_crops: Float32[np.ndarray, "anchored channel gram gram"]
    """Same geometry as the global crops, no distortion of intensities; none unless they are asked for."""


def multi_crop(
    image: Image, background: float, config: CropConfig, rng: np.random.Generator, *, gram: bool = False
) -> Crops:
    """Two global, `local_count` local and, with `gram`, two Gram crops of one normalised slice.

    Each is a random resized crop (area share within the scale, aspect 3/4 to 4/3, antialiased), drawn again until it
    holds `least_foreground` of brain, then flipped, then distorted in intensity. Brain is that of the middle channel,
    the slice itself: so a share means the same, and the same windows are drawn, with neighbours and without.
    """
    foreground = cv2.integral((image[len(image) // 2] > background + 1e-3).astype(np.uint8))
    global_crops, gram_crops = [], []
    for number in (0, 1):
        window = _window(image, foreground, config.global_scale, config, rng)
        if gram:
            gram_crops.append(_cut(image, window, config.gram_px or config.global_px))
        blur, invert = config.blur[number], config.invert * number
        crop = _cut(image, window, config.global_px)
        global_crops.append(distort(crop, background, config, rng, blur=blur, invert=invert))
    local_crops = []
    for _ in range(config.local_count):
        crop = _cut(image, _window(image, foreground, config.local_scale, config, rng), config.local_px)
        local_crops.append(distort(crop, background, config, rng, blur=config.blur[2], invert=0.0))
    empty = np.zeros((0, *global_crops[0].shape), np.float32)
    return Crops(*(np.stack(crops) if crops else empty for crops in (global_crops, local_crops, gram_crops)))


@dataclass(frozen=True)
class Window:
    """Where a crop is cut: top row, left column, height, width, and whether it is flipped left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool


def _window(
    image: Image,
    foreground: np.ndarray,
    scale: tuple[float, float],
    config: CropConfig,
    rng: np.random.Generator,
) -> Window:
    """Draw windows until one holds enough foreground; the best of `TRIES` otherwise."""
    rows, columns = image.shape[1:]
    best, best_share = None, -1.0
    for _ in range(TRIES):
        area = rows * columns * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(*np.log(ASPECT)))
        height = int(np.clip(round(np.sqrt(area / aspect)), 1, rows))
        width = int(np.clip(round(np.sqrt(area * aspect)), 1, columns))
        top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        bottom, right = top + height, left + width
        count = foreground[bottom, right] - foreground[top, right] - foreground[bottom, left] + foreground[top, left]
        share = count / (height * width)
        if share > best_share:
            best, best_share = (top, left, height, width), share
        if share >= config.least_foreground:
            break
    assert best is not None
    return Window(*best, flipped=bool(rng.random() < config.flip))


def _cut(image: Image, window: Window, side: int) -> Float32[np.ndarray, "channel {side} {side}"]:
    """Cut, resize to `side` (area average when shrinking, cubic when enlarging), flip."""
    part = image[:, window.top : window.top + window.height, window.left : window.left + window.width]
    method = cv2.INTER_AREA if min(part.shape[1:]) >= side else cv2.INTER_CUBIC
    resized = np.empty((len(part), side, side), np.float32)
    for channel, whole in zip(part, resized, strict=True):
        cv2.resize(channel, (side, side), dst=whole, interpolation=method)
    return np.ascontiguousarray(resized[:, :, ::-1]) if window.flipped else resized


def distort(
    crop: Image, background: float, config: CropConfig, rng: np.random.Generator, *, blur: float, invert: float
) -> Image:
    """Change the intensities of a crop as another scanner would: gamma, bias field, inversion, blur, noise.

    All channels alike, since they are of one scan; only the noise is drawn anew for every pixel of every channel.
    Works on u = (x - background) / (TOP - background), clipped to [0, 1.5], so that background stays at 0.
    """
    span = TOP - background
    u: np.ndarray = np.clip((crop - background) / span, 0.0, 1.5)
    if config.gamma > 0:
        u = u ** np.float32(np.exp(rng.uniform(-config.gamma, config.gamma)))
    if config.bias_field > 0:
        u = u * _bias_field(crop.shape[1:], config.bias_field, rng)
    if rng.random() < invert:
        u = np.where(u > 0.02, np.clip(1.0 - u, 0.05, 1.0), u)
    if rng.random() < blur:
        sigma = max(float(rng.uniform(0.1, 2.0) * max(crop.shape[1:]) / BLUR_REFERENCE_PX), LEAST_BLUR_PX)
        u = np.stack([cv2.GaussianBlur(channel, (0, 0), sigma) for channel in u.astype(np.float32)])
    if config.noise > 0:
        u = u + rng.uniform(0, config.noise) * rng.standard_normal(crop.shape, np.float32)
    return np.asarray(u * span + background, np.float32)


def _bias_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Float32[np.ndarray, "row column"]:
    """A smooth multiplicative field: 3 x 3 random nodes in log space, cubic in between, at most +- `strength`."""
    nodes = rng.uniform(-1, 1, (3, 3)).astype(np.float32) * np.float32(np.log1p(strength))
    return np.exp(cv2.resize(nodes, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))
