"""What an encoder expects of its input, as plain data: it travels with the corpus and inside `encoder.safetensors`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Literal

from braindino.config import to_dict
from braindino.record import digest

EXTRACTORS = ("builtin", "deepbet", "hd-bet", "synthstrip")
COMMAND = "command:"


@dataclass(frozen=True)
class Limits:
    """A scan beyond one of these is refused, with its reason (see `volume.quality` for the formulas)."""

    most_spacing_mm: float = 10.0
    """Longest edge of a voxel."""
    least_extent_mm: float = 50.0
    """Shortest side of the brain's bounding box: a slab is no brain."""
    most_edge_share: float = 0.75
    """Section of the brain at a face of the image, over its largest parallel section: the field of view cuts it."""
    least_snr: float = 1.1
    """Deviation inside the brain over noise: white noise has 1."""
    most_cjv: float = 1.5
    """Overlap of the dark and the bright tissue inside the brain."""


@dataclass(frozen=True)
class Recipe:
    """What an encoder expects. Defaults of BrainDINO (arXiv 2604.27277): clip 0.5-99.5 %, z-score, 128 slices."""

    spacing_mm: float = 1.0
    """In-plane pixel size, and the thickness over which a slice averages, in mm."""
    size_px: int = 224
    """Side of the square slice in pixels; the brain's bounding box is centred on it."""
    slices: int = 128
    """Axial slices per volume, spread over the brain's extent by `slice_rule`."""
    margin: float = 0.05
    """Share of the brain's height left out at either end, where slices hold hardly any brain."""
    clip_percent: tuple[float, float] = (0.5, 99.5)
    """Percentiles of the intensities inside the brain mask at which they are clipped."""
    background: float = -3.0
    """Value outside the brain, in standard deviations from the mean of the brain."""
    brain: Literal["mask", "none"] = "mask"
    """`mask`: voxels outside the brain mask become background. `none`: they stay (the mask still sets the scale)."""
    brain_ml: tuple[float, float] = (300.0, 2500.0)
    """Brain volumes outside these bounds, in ml, are refused: the mask or the header is wrong."""
    slice_rule: Literal["uniform", "gaussian"] = "uniform"
    """`uniform`: evenly spaced. `gaussian`: at the quantiles of a normal distribution, denser about the middle."""
    slice_scale: float = 0.2
    """Deviation of the `gaussian` rule, as a share of the brain's height."""
    least_change: float = 0.0
    """A slice that differs from the last kept one by less (RMS inside the brain, in standard deviations) is left out of
    a corpus as a near-duplicate; 0 keeps all."""
    neighbours: int = 0
    """2.5-D: this many slices below and above, each `spacing_mm` further, become channels (2 n + 1 in all)."""
    brain_extractor: str = "builtin"
    """Where no mask is given: `builtin`, `deepbet`, `hd-bet`, `synthstrip`, or `command: PROGRAM {input} {output}`."""
    bias: Literal["none", "n4"] = "none"
    """`n4`: divide by the bias field of N4 (Tustison 2010), about 10 s per volume. Needs the extra `registration`."""
    template: Literal["none", "mni152"] = "none"
    """`mni152`: align the brain to the MNI152 T1w template by 12 parameters. Needs the extra `registration`."""
    limits: Limits = field(default_factory=Limits)
    """What is refused as too poor."""

    def __post_init__(self) -> None:
        if not 0.2 <= self.spacing_mm <= 10:
            raise ValueError(f"recipe.spacing_mm is {self.spacing_mm}, expected 0.2 to 10 mm")
        if not 16 <= self.size_px <= 2048 or not 1 <= self.slices <= 1024:
            raise ValueError("recipe.size_px must be 16 to 2048 and recipe.slices 1 to 1024")
        low, high = self.clip_percent
        if not 0 <= low < high <= 100 or not 0 <= self.margin < 0.5:
            raise ValueError("recipe.clip_percent must rise within 0 to 100, and recipe.margin lie in [0, 0.5)")
        if not 0.01 <= self.slice_scale <= 10 or not self.least_change >= 0 or not 0 <= self.neighbours <= 8:
            raise ValueError(
                "recipe.slice_scale must be 0.01 to 10, recipe.least_change at least 0, recipe.neighbours 0 to 8"
            )
        check_extractor(self.brain_extractor)

    @property
    def channels(self) -> int:
        """Channels of a view: 2 `neighbours` + 1, from the lowest slice to the highest; the middle one is the slice."""
        return 2 * self.neighbours + 1

    def hash(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        return digest(to_dict(self))[:12]


def check_extractor(name: str) -> None:
    """Raises ValueError where `name` is no brain extractor (see `Recipe.brain_extractor`)."""
    if not name.startswith(COMMAND):
        if name not in EXTRACTORS:
            raise ValueError(f"recipe.brain_extractor is {name!r}, expected {', '.join(EXTRACTORS)} or '{COMMAND} ...'")
        return
    try:
        words = " ".join(shlex.split(name.removeprefix(COMMAND)))
    except ValueError as error:
        raise ValueError(f"recipe.brain_extractor {name!r} is no command ({error})") from None
    if "{input}" not in words or "{output}" not in words:
        raise ValueError(
            f"recipe.brain_extractor {name!r} must have {{input}} (a .nii file) and {{output}} (the mask, .nii.gz)"
        )
