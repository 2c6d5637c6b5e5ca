"""BraTS 2021: 1251 glioma cases with label maps (1, 2, 4) and 219 without, four contrasts, skull-stripped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from braindino.layouts.brats import read_brats
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "BraTS 2021, from synapse.org or cancerimagingarchive.net; unpack so that BraTS2021_00000/ lies below it."
TERMS = "CC BY 4.0 on TCIA; Synapse asks for registration."

FAMILIES = {
    "BraTS2021_00557": "BraTS2021_00557",
    "BraTS2021_00639": "BraTS2021_00557",
    "BraTS2021_00626": "BraTS2021_00626",
    "BraTS2021_00758": "BraTS2021_00626",
}
"""Two patients stand in this release under two ids each (table of UCSF-PDGM, version 5)."""


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every case folder with its contrasts and label map.

    The two patients with two ids share a family, and `also_in` of the second id names the first.

    Raises:
        ValueError: as `layouts.brats.read_brats`.
    """
    return tuple(map(_with_other_id, read_brats(root, "brats2021", tell, FAMILIES)))


def _with_other_id(case: Case) -> Case:
    family = FAMILIES.get(case.subject, case.subject)
    if family == case.subject:
        return case
    return replace(case, participant={**case.participant, "also_in": f"brats2021/{family}"})
