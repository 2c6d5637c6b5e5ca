"""BraTS 2023 metastases: 238 cases with label maps in the first release, four contrasts, time points of one patient."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.brats import read_brats
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "The MET data of BraTS 2023, from synapse.org; unpack so that BraTS-MET-00002-000/ lies below the folder."
TERMS = "Synapse registration and the terms of the BraTS 2023 challenge."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case folder with its contrasts and label map.

    Raises:
        ValueError: as `layouts.brats.read_brats`.
    """
    return read_brats(root, "brats2023_mets", tell)
