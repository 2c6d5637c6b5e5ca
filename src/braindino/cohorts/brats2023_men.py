"""BraTS 2023 meningioma: 1000 cases with label maps, four contrasts, some patients with two or three time points."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.brats import read_brats
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "The MEN data of BraTS 2023, from synapse.org; unpack so that BraTS-MEN-00004-000/ lies below the folder."
TERMS = "Synapse registration and the terms of the BraTS 2023 challenge."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case folder with its contrasts and label map.

    Raises:
        ValueError: as `layouts.brats.read_brats`.
    """
    return read_brats(root, "brats2023_men", tell)
