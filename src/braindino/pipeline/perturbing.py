"""Which perturbation, how severe and of which seed; and from a perturbed volume back to the scan's own voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer, UInt8

from braindino import catalog
from braindino.types import Volume

MOST_SEVERE = 5


@dataclass(frozen=True)
class Perturbation:
    """What is done to every volume right after it was read, before preprocessing."""

    name: str = "none"
    severity: int = 0
    seed: int = 0
    """What is drawn for a subject depends on this and on nobody else."""

    def __post_init__(self) -> None:
        if not 0 <= self.severity <= MOST_SEVERE:
            raise ValueError(f"--severity is {self.severity}, expected 0 (no change) to {MOST_SEVERE}")
        if self.name == "none" and self.severity:
            raise ValueError(f"--severity {self.severity} of which perturbation? Add --perturb NAME")
        if self.name != "none":
            catalog.load("perturbations", self.name)

    def of(self, volume: Volume) -> Volume:
        """The volume perturbed; at severity 0 the very same one.

        Raises:
            ValueError: as the plug-in's `apply`.
        """
        if not self.severity:
            return volume
        perturbed: Volume = catalog.load("perturbations", self.name).apply(volume, self.severity, self.seed)
        return perturbed

    def traced(self, volume: Volume) -> tuple[Volume, Integer[np.ndarray, "a b c"]]:
        """The volume perturbed, without its label map, and for each voxel its number among the scan's own voxels.

        Numbers are moved along as a label map is: where nothing moves they are 0, 1, 2, ... in C order.

        Raises:
            ValueError: as `of`.
        """
        shape = volume.voxels.shape[1:]
        numbers = np.arange(math.prod(shape)).reshape(shape)
        moved = self.of(replace(volume, label_map=numbers))
        assert moved.label_map is not None
        return replace(moved, label_map=None), moved.label_map


def back_in_place(
    labels: UInt8[np.ndarray, "a b c"], numbers: Integer[np.ndarray, "a b c"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "i j k"]:
    """Labels of the voxels of a perturbed volume, each at that voxel of the scan (of `shape`) which it came from."""
    found = np.zeros(math.prod(shape), np.uint8)
    found[numbers.ravel()] = labels.ravel()
    return found.reshape(shape)
