"""How many synthetic subjects of which group to make, and from which anatomy. Plain data, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SynthesisConfig:
    """A cohort of synthetic subjects.

    Raises:
        ValueError: no subject, more than 999 in a group, a voxel size outside 1 to 4 mm, a negative seed or workers.
    """

    healthy: int = 24
    """Subjects without disease."""
    dementia: int = 18
    """Subjects with medial-temporal atrophy beyond age."""
    glioma: int = 24
    """Subjects with a tumour, four contrasts each."""
    stroke: int = 0
    """Subjects with a stroke lesion of known age."""
    first: int = 1
    """Number of the first subject of each group. Subjects of two cohorts that have one name count as one person."""
    seed: int = 0
    """Every subject is a function of the seed and its name."""
    spacing_mm: float = 2.0
    """Nominal voxel edge, 1 to 4 mm; each site multiplies it by its own factors."""
    anatomy: Path | None = None
    """Folder of FreeSurfer-style label maps (`*.nii.gz`) to start from; default: the two packaged anatomies."""
    workers: int = 0
    """Processes; 0 means one per core. They do not change a byte of the result."""

    def __post_init__(self) -> None:
        counts = (self.healthy, self.dementia, self.glioma, self.stroke)
        if min(counts) < 0 or max(counts) > 999 or not any(counts):
            raise ValueError(f"numbers of subjects {counts}: expected 0 to 999 per group and at least one in all")
        if not 1 <= self.first <= 1000 - max(counts):
            raise ValueError(f"first is {self.first}: the numbers of {max(counts)} subjects must lie within 1 to 999")
        if not 1.0 <= self.spacing_mm <= 4.0:
            raise ValueError(f"spacing_mm is {self.spacing_mm}; expected 1 to 4 mm")
        if self.seed < 0 or self.workers < 0:
            raise ValueError(f"seed is {self.seed} and workers {self.workers}; expected 0 or more")
