"""No network: volumes, tissue shares and intensity statistics of fixed parts of the brain, a rival that costs nothing.

Radiomics at its plainest. Every number has a name (`NAMES`) and stands for something that a reader can look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from braindino.catalog import chosen
from braindino.record import digest
from braindino.types import Tokens, Volume
from braindino.volume.preprocess import preprocess
from braindino.volume.recipe import Recipe
from braindino.volume.resample import bounding_box

VARIANTS: tuple[str, ...] = ("default",)
RECIPE = Recipe(spacing_mm=2.0, size_px=128, background=0.0)
"""A grid of about 2 mm along each axis. Outside of the mask lies the brain's mean, which hardly changes its rim."""
GRID = (3, 4, 3)
"""Boxes along Right, Anterior, Superior of the brain's bounding box."""
PERCENTILES = (10, 50, 90)
WHOLE = ("brain_ml", "extent_r_mm", "extent_a_mm", "extent_s_mm", "dark_share", "middle_share", "bright_share")
PARTS = ("volume_share", "mean", "sd", "skewness", *(f"percentile_{p}" for p in PERCENTILES), "gradient_energy")
NAMES: tuple[str, ...] = (
    *WHOLE,
    *(f"r{r}_a{a}_s{s}_{part}" for r, a, s in np.ndindex(*GRID) for part in PARTS),
)
"""Name of each number of a view. Box `r0_a0_s0` is the leftmost, hindmost, lowest one; a name ends in its unit, and
without one it is a share of the brain's voxels, or the intensity in standard deviations of the brain."""


def load(weights: Path | None = None, *, seed: int = 0, variant: str = "") -> Regions:
    """The encoder; it has no weights and draws nothing, so `seed` is not used.

    Raises:
        ValueError: weights are given, or an unknown variant.
    """
    if weights is not None:
        raise ValueError(f"regions has no weights; leave out {weights}")
    chosen("regions", variant, VARIANTS)
    return Regions()


@dataclass(frozen=True)
class Regions:
    """The `Encoder` protocol of `types`. One view per contrast, of `NAMES`."""

    name: str = "regions"
    recipe: Recipe = RECIPE
    dim: int = len(NAMES)
    seen: frozenset[str] = frozenset()
    """Nobody: nothing is learned."""

    def digest(self) -> str:
        """SHA-256 over the names, since there are no weights."""
        return digest(list(NAMES))

    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """The numbers of each contrast; no patch tokens, and always every slice.

        Raises:
            ValueError: see `preprocess`; a contrast that is the same everywhere in the brain, too.
        """
        prepared = preprocess(volume, self.recipe, every_slice=True)
        mask = prepared.brain_mask
        assert mask is not None and prepared.quality is not None
        rows = [describe(image, mask, prepared.spacing_mm) for image in prepared.voxels]
        for row in rows:
            row[:4] = prepared.quality.brain_ml, *prepared.quality.extent_mm  # as measured on the scan itself
        return Tokens(
            cls=np.stack(rows),
            patch=None,
            storage=None,
            grid=(0, 0),
            position_mm=np.zeros(len(rows), np.float32),
            contrasts=volume.contrasts,
            prepared=prepared,
        )


def describe(
    image: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]
) -> Float32[np.ndarray, " name"]:
    """The numbers of one contrast, in the order of `NAMES`.

    Whole brain: volume and sides of its bounding box; shares of the three classes, dark to bright, that Otsu's two
    thresholds make (`two_thresholds`). For each box of `GRID` over the bounding box, over its voxels x in the mask:
    share of the brain's voxels; mean; sd; skewness mean(((x - mean) / sd)^3), 0 where sd is 0; percentiles; gradient
    energy, the mean of |grad x|^2 in 1/mm^2 by central differences, over those voxels whose six neighbours lie in the
    mask. A box without a voxel of the brain has zeros.

    Args:
        image: z-scored over the brain.
        mask: of the brain, not empty.
        spacing_mm: edges of a voxel.
    """
    box = bounding_box(mask)
    image, mask = image[box].astype(np.float64), mask[box]
    inside = image[mask]
    millilitres = mask.sum() * np.prod(spacing_mm) / 1000
    shares = np.bincount(np.searchsorted(two_thresholds(inside), inside, side="right"), minlength=3) / len(inside)
    energy, deep = _gradient_energy(image, mask, spacing_mm)
    numbers = [millilitres, *(n * mm for n, mm in zip(mask.shape, spacing_mm, strict=True)), *shares]
    edges = [np.linspace(0, n, count + 1).round().astype(int) for n, count in zip(mask.shape, GRID, strict=True)]
    for place in np.ndindex(*GRID):
        part = tuple(slice(edge[n], edge[n + 1]) for edge, n in zip(edges, place, strict=True))
        numbers += _part(image[part][mask[part]], energy[part][deep[part]], len(inside))
    return np.array(numbers, np.float32)


def two_thresholds(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 2"]:
    """The two thresholds with the largest variance between the three classes (Otsu 1979), on 256 bins.

    A value equal to a threshold belongs to the class above it.
    """
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    weight, moment = (np.concatenate([[0.0], np.cumsum(c)]) for c in (counts, counts * centres))
    cut = np.arange(1, 256)  # the classes are the bins below cut a, from a to b, and from b on
    explained = (
        _explained(weight[cut], moment[cut])[:, None]
        + _explained(weight[None, cut] - weight[cut, None], moment[None, cut] - moment[cut, None])
        + _explained(weight[-1] - weight[cut], moment[-1] - moment[cut])[None, :]
    )
    explained[np.tril_indices(len(cut))] = -np.inf
    first, second = np.unravel_index(int(np.argmax(explained)), explained.shape)
    return np.asarray(edges[[cut[first], cut[second]]])


def _explained(weight: Float[np.ndarray, ...], moment: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """weight x mean^2 of a class: their sum is the variance between classes, up to a constant."""
    return np.asarray(moment**2 / np.maximum(weight, 1e-12))


def _part(inside: Float[np.ndarray, " n"], energy: Float[np.ndarray, " m"], whole: int) -> list[float | np.floating]:
    if not len(inside):
        return [0.0] * len(PARTS)
    deviation = inside.std()
    skewness = np.mean(((inside - inside.mean()) / deviation) ** 3) if deviation > 1e-6 else 0.0
    steep = energy.mean() if len(energy) else 0.0
    return [
        len(inside) / whole, inside.mean(), deviation, skewness, *np.percentile(inside, PERCENTILES), steep
    ]  # fmt: skip


def _gradient_energy(
    image: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]
) -> tuple[Float[np.ndarray, "i j k"], Bool[np.ndarray, "i j k"]]:
    """|grad x|^2 in 1/mm^2, and where it is known: at voxels whose six neighbours lie in the mask."""
    energy, deep = np.zeros(image.shape), mask.copy()
    for axis, step in enumerate(spacing_mm):
        x, known = np.moveaxis(image, axis, 0), np.moveaxis(mask, axis, 0)
        np.moveaxis(energy, axis, 0)[1:-1] += ((x[2:] - x[:-2]) / (2 * step)) ** 2
        both = np.zeros(known.shape, bool)
        both[1:-1] = known[2:] & known[:-2]
        deep &= np.moveaxis(both, 0, axis)
    return energy, deep
