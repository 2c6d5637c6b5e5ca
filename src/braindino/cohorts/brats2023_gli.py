"""BraTS 2023 glioma: the images of BraTS 2021 under new names, label maps with 1, 2, 3."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.brats import read_brats
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "The GLI data of BraTS 2023, from synapse.org; unpack so that BraTS-GLI-00000-000/ lies below the folder."
TERMS = "Synapse registration and the terms of the BraTS 2023 challenge."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case folder with its contrasts and label map.

    Raises:
        ValueError: as `layouts.brats.read_brats`.
    """
    return read_brats(root, "brats2023_gli", tell)
