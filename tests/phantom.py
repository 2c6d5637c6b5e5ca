"""A small test image, for tests of geometry and of files only (never of learning)."""

import numpy as np

from braindino.types import Volume


def head(shape=(40, 48, 36), spacing=(4.0, 4.0, 4.0), seed=0):
    """A small skull-stripped "head" with texture: an ellipsoid of noise, for tests of geometry and of files only."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.75
    image = np.where(inside, 100 + 20 * grid[1] + 5 * rng.standard_normal(shape), 0).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-s * (n - 1) / 2 for s, n in zip(spacing, shape, strict=True)]
    return Volume(image[None], ("T1w",), affine, brain_mask=inside)
