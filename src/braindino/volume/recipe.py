"""What an encoder expects of its input, as plain data: it travels with the corpus and inside `encoder.safetensors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from braindino.config import to_dict
from braindino.record import digest


@dataclass(frozen=True)
class Recipe:
    """What an encoder expects. Defaults of BrainDINO (arXiv 2604.27277): clip 0.5-99.5 %, z-score, 128 slices."""

    spacing_mm: float = 1.0
    """In-plane pixel size, and the thickness over which a slice averages, in mm."""
    size_px: int = 224
    """Side of the square slice in pixels; the brain's bounding box is centred on it."""
    slices: int = 128
    """Axial slices per volume, spread evenly over the brain's extent."""
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

    def __post_init__(self) -> None:
        if not 0.2 <= self.spacing_mm <= 10:
            raise ValueError(f"recipe.spacing_mm is {self.spacing_mm}, expected 0.2 to 10 mm")
        if not 16 <= self.size_px <= 2048 or not 1 <= self.slices <= 1024:
            raise ValueError("recipe.size_px must be 16 to 2048 and recipe.slices 1 to 1024")
        low, high = self.clip_percent
        if not 0 <= low < high <= 100 or not 0 <= self.margin < 0.5:
            raise ValueError("recipe.clip_percent must rise within 0 to 100, and recipe.margin lie in [0, 0.5)")

    def hash(self) -> str:
        """Twelve hexadecimal digits that name this recipe."""
        return digest(to_dict(self))[:12]
