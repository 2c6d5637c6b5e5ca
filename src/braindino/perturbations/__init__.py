"""Perturbations: simulated acquisition changes, applied before preprocessing. One file each.

Contract: a module defines `SEVERITIES`, the physical value of each severity from 0 to 5 (severity 0 is the identity:
the very same volume), `UNIT`, what that value is, and `apply(volume, severity, seed) -> Volume`, which

- takes the volume as it was read (RAS, any spacing, any number of contrasts, with or without a skull) and leaves it
  unchanged;
- draws everything random from (seed, subject, name of the perturbation) alone, and the same at every severity, so that
  severities differ in strength and in nothing else;
- moves brain mask and label map along where voxels move, reordered and never interpolated (`predict` finds each voxel's
  place again by it), and adds a sentence to `history`.

Where the image is skull-stripped, what lay outside the brain keeps the background's value: stripping comes after the
scanner. docs/perturbations.md holds the physical values, formulas and a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from braindino.types import Volume
from braindino.volume.brain import brain_mask, stripped_mask

Value = TypeVar("Value")


def value_at(severities: Sequence[Value], severity: int) -> Value:
    """The physical value of a severity.

    Raises:
        ValueError: a severity that is not in the table.
    """
    if not 0 <= severity < len(severities):
        raise ValueError(f"severity must be 0 to {len(severities) - 1} (0 changes nothing), got {severity}")
    return severities[severity]


def generator(volume: Volume, seed: int, name: str) -> np.random.Generator:
    """Random numbers of one perturbation and subject; all sessions and severities of a subject share them."""
    subject = volume.scans[0].subject if volume.scans else ""
    words = np.frombuffer(hashlib.sha256(f"{name}\0{subject}".encode()).digest(), np.uint32).tolist()
    return np.random.default_rng([seed, *words])


def with_voxels(volume: Volume, voxels: Float32[np.ndarray, "contrast i j k"], told: str) -> Volume:
    """The volume with other intensities on the same grid; what was stripped away stays away."""
    stripped = stripped_mask(volume)
    if stripped is not None:
        voxels = np.where(stripped, voxels, volume.voxels)
    return replace(volume, voxels=np.ascontiguousarray(voxels, np.float32), history=(*volume.history, told))


def brain_means(volume: Volume) -> Float32[np.ndarray, " contrast"]:
    """Mean intensity of each contrast within the brain: the given mask, else the one that preprocessing would find.

    Raises:
        ValueError: no brain is found, or its mean is not positive.
    """
    means = volume.voxels[:, brain_mask(volume)[0]].mean(axis=1)
    if not (means > 0).all():
        raise ValueError(f"the mean intensity within the brain is {means.min():.3g}; a raw magnitude image has more")
    return np.asarray(means, np.float32)


def coarse(size: int, voxels: float) -> Float32[np.ndarray, "{size} {size}"]:
    """Averages over `voxels` neighbouring voxels (not whole ones in general), interpolated back onto the grid.

    The coarse voxels lie end to end from the first edge of the grid on, the last one ending where the grid does;
    between their centres values are linear, beyond the outer ones constant. Rows sum to 1.
    """
    count = max(1, int(np.ceil(size / voxels - 1e-6)))
    edges = np.minimum(np.arange(count + 1) * voxels, size)
    fine = np.arange(size)
    overlap = np.minimum(edges[1:, None], fine + 1) - np.maximum(edges[:-1, None], fine)
    average = np.maximum(overlap, 0.0)
    average /= average.sum(axis=1, keepdims=True)
    centres = (edges[:-1] + edges[1:]) / 2
    back = np.stack([np.interp(fine + 0.5, centres, row) for row in np.eye(count)], axis=1)
    return np.asarray(back @ average, np.float32)
