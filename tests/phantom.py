"""A small test image, for tests of geometry and of files only (never of learning)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from braindino.types import Scan, Volume


def head(shape=(40, 48, 36), spacing=(4.0, 4.0, 4.0), seed=0):
    """A small skull-stripped "head" with texture: an ellipsoid of noise, for tests of geometry and of files only."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.75
    image = np.where(inside, 100 + 20 * grid[1] + 5 * rng.standard_normal(shape), 0).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-s * (n - 1) / 2 for s, n in zip(spacing, shape, strict=True)]
    return Volume(image[None], ("T1w",), affine, brain_mask=inside)


def scanned(subject="sub-01", spacing=(3.0, 3.0, 3.0), contrasts=1, **kind):
    """The same head with noise in the air (so that it is not taken for a stripped one), a lesion and a subject."""
    made = head((48, 56, 44), spacing)
    air = 4 * np.random.default_rng(1).random(made.voxels.shape)
    voxels = np.concatenate([made.voxels * (n + 1) + air for n in range(contrasts)]).astype(np.float32)
    labels = np.zeros(made.voxels.shape[1:], np.int16)
    labels[12:18, 20:30, 25:30] = 1
    scans = tuple(Scan("c", subject, f"T{n}", Path("x")) for n in range(contrasts))
    names = tuple(scan.contrast for scan in scans)
    volume = replace(made, voxels=voxels, contrasts=names, scans=scans, label_map=labels, history=("read",))
    return replace(volume, **kind)
