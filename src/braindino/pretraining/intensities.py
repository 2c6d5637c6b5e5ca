"""Intensities of a slice changed as another scanner would: inversion, gamma, bias field, ghost, blur, noise.

All works on u = (x - background) / (TOP - background), clipped to [0, 1.5], in place and in float32: the background is
u = 0 and stays there under everything but noise. Channels change alike, since they are of one scan; only the noise is
another one in each.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

from braindino.pretraining.config import CropConfig

Image = Float32[np.ndarray, "channel row column"]
TOP = 3.0
"""Standard deviations above the brain's mean that map to u = 1; the background maps to 0."""
MOST = 1.5
"""Largest u."""
FOREGROUND = 1e-3
"""A pixel this far above the background, in standard deviations, is brain (slices are stored in float16)."""
DARK, DIM = 0.02, 0.05
"""Inversion leaves u up to DARK as it is, and gives at least DIM: brain does not become background."""
TINY = 1e-20
"""What stands for u = 0 in log space: after gamma nothing beside the background, nor too small to be quick."""
BLUR_REFERENCE_PX = 224
LEAST_BLUR_PX = 0.3
"""A smaller sigma changes nothing on a pixel grid, and a blur that changes nothing is none."""
GHOST_SHIFT = (1 / 8, 7 / 8)
"""How far a ghost is shifted, as a share of the slice; it comes in again at the other side."""
GHOST_WEIGHT = (0.05, 0.25)
"""Share of the signal that goes to the ghost."""
PLANE_PX = 1024
"""Least side of the plane from which noise is cut."""


def share_of_range(image: Image, background: float) -> Image:
    """A slice as u: 0 where it is not brain or not a number, above 0 where it is brain."""
    u = image - np.float32(background)
    u *= np.float32(1 / (TOP - background))
    cv2.patchNaNs(_flat(u), 0.0)
    _clip(u, least=FOREGROUND / (TOP - background))
    return u


def ghosted(u: Image, rng: np.random.Generator) -> Image:
    """(1 - w) u + w times u shifted along rows or columns, the phase axis: what motion or a pulse leaves of a slice.

    Within the brain alone, since brains are masked after they were scanned: background stays background.
    """
    axis = 1 + int(rng.random() < 0.5)
    shift = round(u.shape[axis] * rng.uniform(*GHOST_SHIFT))
    weight = rng.uniform(*GHOST_WEIGHT)
    ghost, flat = np.roll(u, shift, axis), _flat(u)
    cv2.addWeighted(flat, 1 - weight, _flat(ghost), weight, 0.0, dst=_flat(ghost))
    ghost[u == 0] = 0
    return ghost


def distort(
    u: Image, background: float, config: CropConfig, rng: np.random.Generator, *, blur: float, invert: float
) -> None:
    """Turn a crop of u, clipped first, into distorted intensities x, in place.

    With probability `invert` u <- 1 - u (not below 0.05) where u > 0.02; then u <- min(u^g exp(b), 1.5) with gamma g
    and log bias field b; with probability `blur` a Gaussian blur; at last x = background + (u + noise) (TOP -
    background). Noise lies on the background too.
    """
    flat, span = _flat(u), TOP - background
    _clip(u)
    if rng.random() < invert:
        _invert(flat)
    if config.gamma > 0 or config.bias_field > 0:
        flat += np.float32(TINY)
        cv2.log(flat, dst=flat)
        u *= np.float32(math.exp(config.gamma * (2 * rng.random() - 1)))
        if config.bias_field > 0:
            u += _bias_field(u.shape[-1], config.bias_field, rng)
        cv2.exp(flat, dst=flat)
        cv2.threshold(flat, MOST, 0, cv2.THRESH_TRUNC, dst=flat)
    if rng.random() < blur:
        sigma = max((0.1 + 1.9 * rng.random()) * u.shape[-1] / BLUR_REFERENCE_PX, LEAST_BLUR_PX)
        for channel in u:
            cv2.GaussianBlur(channel, (0, 0), sigma, dst=channel)
    strength = span * config.noise * (2 * rng.random() - 1)
    for channel in u:
        noise = _noise(u.shape[-1], rng) if config.noise > 0 else channel
        cv2.addWeighted(channel, span, noise, strength, background, dst=channel)


def _flat(image: Image) -> Float32[np.ndarray, "line column"]:
    """The channels of a contiguous array one below the other: what OpenCV takes for one picture."""
    return image.reshape(-1, image.shape[-1])


def _clip(u: Image, least: float = 0.0) -> None:
    """To [0, 1.5]; what is not above `least` becomes 0. (OpenCV takes a fifth of numpy's time.)"""
    cv2.threshold(_flat(u), least, 0, cv2.THRESH_TOZERO, dst=_flat(u))
    cv2.threshold(_flat(u), MOST, 0, cv2.THRESH_TRUNC, dst=_flat(u))


def _invert(flat: Float32[np.ndarray, "line column"]) -> None:
    inside = (flat > DARK).view(np.uint8)
    cv2.copyTo(np.clip(1 - flat, np.float32(DIM), 1), inside, dst=flat)


def _bias_field(side: int, strength: float, rng: np.random.Generator) -> Float32[np.ndarray, "{side} {side}"]:
    """Log of a smooth field: 3 x 3 random nodes in +- ln(1 + strength), cubic in between."""
    nodes = rng.random((3, 3), np.float32)
    nodes -= np.float32(0.5)
    nodes *= np.float32(2 * math.log1p(strength))
    field: np.ndarray = _between(side) @ nodes @ _between(side).T
    return field


@lru_cache(8)
def _between(side: int) -> Float32[np.ndarray, "{side} 3"]:
    """Weights of three nodes at every pixel: cubic interpolation as a matrix product, for it is linear."""
    return cv2.resize(np.eye(3, dtype=np.float32), (3, side), interpolation=cv2.INTER_CUBIC)


def _noise(side: int, rng: np.random.Generator) -> Float32[np.ndarray, "{side} {side}"]:
    """White normal noise: a random window of a fixed plane (and the strength has either sign).

    To draw it anew takes longer than all else (benchmarks/augmentation.py). The price: the same numbers come again. Two
    crops of 224 px have the same noise once in 640 000 pairs; else the pixels of one meet other numbers of the plane.
    """
    plane = _plane(max(PLANE_PX, 2 * side))
    top, left = rng.integers(len(plane) - side + 1, size=2).tolist()
    return plane[top : top + side, left : left + side]


@lru_cache(4)
def _plane(side: int) -> Float32[np.ndarray, "{side} {side}"]:
    return np.random.Generator(np.random.SFC64(side)).standard_normal((side, side), np.float32)
