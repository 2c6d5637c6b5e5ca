"""How good a scan is, in numbers from its brain mask and intensities, and what is refused as too poor.

Simple relatives of MRIQC's measures: no tissue segmentation, no air needed, so that they work on skull-stripped scans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from braindino.types import Volume
from braindino.volume.recipe import Recipe

FACES = ("left", "right", "posterior", "anterior", "inferior", "superior")
CLIP_PERCENT = (0.5, 99.5)
SAMPLES = 200_000
"""Of more voxels than this in the mask evenly spaced ones are looked at."""
MAD_TO_DEVIATION = 1.4826
"""Standard deviation over the median absolute deviation of normal noise."""


@dataclass(frozen=True)
class Quality:
    """One scan's numbers. Of several contrasts the lowest `snr` and the highest `cjv` stand here."""

    spacing_mm: tuple[float, float, float]
    """Edges of a voxel along Right, Anterior, Superior."""
    extent_mm: tuple[float, float, float]
    """Sides of the brain mask's bounding box."""
    brain_ml: float
    """Volume of the brain mask."""
    edge_share: tuple[float, float, float, float, float, float]
    """For each of `FACES`: area of the mask in the outermost plane over its largest area in a parallel plane, 0 to 1.
    0 where the brain ends before the image does, near 1 where the field of view cuts it in the middle."""
    snr: float
    """sd / sigma >= 0: deviation of the clipped intensities inside the mask over the noise, sigma = 1.4826 median |r|
    with r = (x[n-1] - 2 x[n] + x[n+1]) / sqrt(6) inside the mask, for the axis with the lowest sigma (Gasser 1986).
    White noise has 1; infinite where there is no noise."""
    cjv: float
    """(s1 + s2) / (m2 - m1) >= 0 for means m and deviations s of the two classes that Otsu's threshold makes of the
    clipped intensities inside the mask. A normal distribution has 0.76, two sharp tissues 0."""

    def row(self) -> dict[str, float]:
        """The numbers by name, for a table with one row per scan."""
        named = {f"spacing_{axis}_mm": mm for axis, mm in zip("ras", self.spacing_mm, strict=True)}
        named |= {f"extent_{axis}_mm": mm for axis, mm in zip("ras", self.extent_mm, strict=True)}
        named |= {f"edge_{face}": share for face, share in zip(FACES, self.edge_share, strict=True)}
        return named | {"brain_ml": self.brain_ml, "snr": self.snr, "cjv": self.cjv}


def quality(volume: Volume, mask: Bool[np.ndarray, "i j k"]) -> Quality:
    """Measure a volume as read (before any correction) inside its brain mask.

    Raises:
        ValueError: the mask is empty or lies on another grid.
    """
    if mask.shape != volume.voxels.shape[1:]:
        raise ValueError(f"mask of {mask.shape} voxels on a volume of {volume.voxels.shape[1:]}; resample it first")
    columns, rows = (mask.sum(axis=axis, dtype=np.int32) for axis in (2, 0))
    areas = [columns.sum(axis=1), columns.sum(axis=0), rows.sum(axis=0)]
    if not areas[0].any():
        raise ValueError("the brain mask is empty")
    bounds = [(int(np.flatnonzero(area)[0]), int(np.flatnonzero(area)[-1]) + 1) for area in areas]
    box = tuple(slice(*bound) for bound in bounds)
    shares = [float(area[end] / area.max()) for area in areas for end in (0, -1)]
    extent = [(last - first) * mm for (first, last), mm in zip(bounds, volume.spacing_mm, strict=True)]
    signals = [_signal(image[box], mask[box]) for image in volume.voxels]
    return Quality(
        spacing_mm=volume.spacing_mm,
        extent_mm=(extent[0], extent[1], extent[2]),
        brain_ml=float(mask.sum()) * float(np.prod(volume.spacing_mm)) / 1000,
        edge_share=(shares[0], shares[1], shares[2], shares[3], shares[4], shares[5]),
        snr=min(snr for snr, _ in signals),
        cjv=max(cjv for _, cjv in signals),
    )


def require(found: Quality, recipe: Recipe) -> None:
    """Refuse a scan beyond the recipe's limits.

    Raises:
        ValueError: names every number that is out of bounds, and its bound.
    """
    limits, problems = recipe.limits, []
    low, high = recipe.brain_ml
    if not low <= found.brain_ml <= high:
        problems.append(
            f"brain mask of {found.brain_ml:.0f} ml (expected {low:.0f} to {high:.0f}): mask or header is wrong"
        )
    if (spacing := max(found.spacing_mm)) > limits.most_spacing_mm:
        problems.append(f"voxels of {spacing:.1f} mm (at most {limits.most_spacing_mm:g})")
    if (extent := min(found.extent_mm)) < limits.least_extent_mm:
        problems.append(f"brain of only {extent:.0f} mm along one axis (at least {limits.least_extent_mm:g})")
    if (share := max(found.edge_share)) > limits.most_edge_share:
        face = FACES[found.edge_share.index(share)]
        problems.append(f"field of view cuts the brain at its {face} face ({share:.0%} of the largest section)")
    if found.snr < limits.least_snr:
        problems.append(f"signal-to-noise ratio {found.snr:.2f} (at least {limits.least_snr:g})")
    if found.cjv > limits.most_cjv:
        problems.append(f"tissue overlap (CJV) {found.cjv:.2f} (at most {limits.most_cjv:g})")
    if problems:
        raise ValueError("poor scan: " + "; ".join(problems))


def _signal(image: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"]) -> tuple[float, float]:
    """Signal-to-noise ratio and coefficient of joint variation of one contrast."""
    inside = image[mask]
    inside = inside[:: 1 + len(inside) // SAMPLES].astype(np.float64)
    inside = np.clip(inside, *np.percentile(inside, CLIP_PERCENT))
    deviation = float(inside.std())
    if not deviation > 1e-6 * max(float(np.abs(inside).max()), 1e-12):
        raise ValueError("all voxels inside the brain mask have the same value; the mask does not fit the image")
    noise = min((sigma for axis in range(3) if (sigma := _noise(image, mask, axis)) is not None), default=0.0)
    return (deviation / noise if noise > 0 else float("inf")), _joint_variation(inside)


def _noise(image: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], axis: int) -> float | None:
    """Deviation of the noise from second differences along `axis`; None without three neighbours in the mask."""
    step = 1 + int(np.sqrt(mask.size / SAMPLES) / 2)
    x, m = (np.moveaxis(array, axis, 0)[:, ::step, ::step] for array in (image, mask))
    inside = m[:-2] & m[1:-1] & m[2:]
    if not inside.any():
        return None
    residual = (x[:-2][inside] - 2 * x[1:-1][inside] + x[2:][inside]) / np.sqrt(6)
    return MAD_TO_DEVIATION * float(np.median(np.abs(residual)))


def _joint_variation(inside: Float[np.ndarray, " n"]) -> float:
    """Coefficient of joint variation of the two classes of Otsu's threshold (on 256 bins)."""
    counts, edges = np.histogram(inside, bins=256)
    centres, weight = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts) / counts.sum()
    moment = np.cumsum(counts * centres) / counts.sum()
    between = (moment[-1] * weight - moment) ** 2 / np.maximum(weight * (1 - weight), 1e-12)
    cut = edges[1 + int(np.argmax(between[:-1]))]
    dark, bright = inside[inside < cut], inside[inside >= cut]
    if not len(dark) or not len(bright):
        return float("inf")
    return float((dark.std() + bright.std()) / (bright.mean() - dark.mean()))
