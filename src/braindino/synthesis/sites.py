"""Sites: each with its own scanner gain, noise, voxel size and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from braindino.synthesis.contrast import Sequence

CONTRASTS: Mapping[str, tuple[str, ...]] = {
    "healthy": ("T1w", "FLAIR"),
    "dementia": ("T1w", "FLAIR"),
    "glioma": ("T1w", "T1ce", "T2w", "FLAIR"),
    "stroke": ("T1w", "FLAIR"),
}
"""Contrasts written per group. T1ce is the T1w sequence after gadolinium."""


@dataclass(frozen=True)
class Site:
    """One scanner."""

    name: str
    gain: float
    """Image value of white matter on T1w (each contrast is scaled by the receiver alike)."""
    noise: float
    """Sd of each of the two channels' noise, as a share of the brain's mean signal in that contrast."""
    in_plane: float
    through_plane: float
    """Voxel edges as factors of the nominal spacing."""
    sequences: Mapping[str, Sequence]


def _sequence_set(t1w: Sequence, t2w: Sequence, flair: Sequence) -> Mapping[str, Sequence]:
    return {"T1w": t1w, "T1ce": t1w, "T2w": t2w, "FLAIR": flair}


SITES: tuple[Site, ...] = (
    Site(
        "north", 620, 0.020, 1.0, 1.0,
        _sequence_set(
            Sequence("gradient_echo", 18, 4.0, flip_deg=25, slice_mm=1.2),
            Sequence("spin_echo", 5000, 95, slice_mm=3),
            Sequence("inversion_recovery", 9000, 120, 2500, slice_mm=3),
        ),
    ),
    Site(
        "south", 900, 0.032, 0.95, 1.1,
        _sequence_set(
            Sequence("prepared_gradient_echo", 2300, 3.0, 1000, 9, slice_mm=1),
            Sequence("spin_echo", 4200, 84, slice_mm=4),
            Sequence("inversion_recovery", 8500, 105, 2400, slice_mm=4),
        ),
    ),
    Site(
        "east", 310, 0.045, 1.05, 1.2,
        _sequence_set(
            Sequence("gradient_echo", 25, 5.0, flip_deg=30, slice_mm=1.5),
            Sequence("spin_echo", 6000, 105, slice_mm=4),
            Sequence("inversion_recovery", 10000, 135, 2600, slice_mm=5),
        ),
    ),
    Site(
        "west", 1250, 0.025, 0.9, 1.0,
        _sequence_set(
            Sequence("prepared_gradient_echo", 2000, 2.6, 900, 8, slice_mm=1),
            Sequence("spin_echo", 5500, 90, slice_mm=2),
            Sequence("inversion_recovery", 9500, 115, 2550, slice_mm=2),
        ),
    ),
)  # fmt: skip
