"""BraTS 2024 GoAT: 1351 cases with label maps from several BraTS tracks under new names without time points."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.brats import read_brats
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "The GoAT data of BraTS 2024, from synapse.org; unpack so that BraTS-GoAT-00000/ lies below the folder."
TERMS = "Synapse registration and the terms of the BraTS 2024 challenge."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case folder with its contrasts and label map.

    Raises:
        ValueError: as `layouts.brats.read_brats`.
    """
    return read_brats(root, "brats2024_goat", tell)
