"""Gibbs ringing: only the centre of k-space was measured."""

from __future__ import annotations

import numpy as np
from scipy import fft

from braindino.perturbations import value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)
UNIT = "share of k-space kept along an axis of the finest voxels"


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """Set k-space to 0 where |f| > share / (2 finest voxel edge) along any axis, f in cycles per mm; the real part.

    A sharp edge then overshoots by about 9 % and rings with a period of (2 finest edge) / share. The bound is in mm,
    so thick slices, which never held such frequencies, are left as they are. Nothing is random.

    Raises:
        ValueError: a severity that is not in the table.
    """
    share = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    spacing = volume.spacing_mm
    most = share / (2 * min(spacing)) * (1 + 1e-9)
    axes = (1, 2, 3)
    spectrum = fft.rfftn(volume.voxels, axes=axes)
    for axis, (size, edge) in enumerate(zip(volume.voxels.shape[1:], spacing, strict=True), start=1):
        found = fft.rfftfreq(size, edge) if axis == 3 else np.abs(fft.fftfreq(size, edge))
        np.moveaxis(spectrum, axis, 0)[found > most] = 0
    changed = fft.irfftn(spectrum, s=volume.voxels.shape[1:], axes=axes)
    told = f"perturbed: gibbs, {share:.0%} of k-space kept (up to {most:.3g} cycles per mm)"
    return with_voxels(volume, changed.astype(np.float32), told)
