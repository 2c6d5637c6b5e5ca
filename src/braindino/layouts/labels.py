"""What the voxel values of published label maps mean. One value means different things in different releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelScheme:
    """The values of one convention and the regions that they form."""

    values: Mapping[int, str]
    """Value to meaning; 0 is background."""
    regions: Mapping[str, tuple[int, ...]]
    """Region to the values that it unites, from the outermost to the innermost."""


SCHEMES = {
    "brats2021": LabelScheme(
        {1: "necrotic core", 2: "oedema", 4: "enhancing tumour"}, {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    ),
    "brats2023": LabelScheme(
        {1: "necrotic core", 2: "oedema", 3: "enhancing tumour"}, {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    ),
    "nnunet_brats": LabelScheme(
        {1: "oedema", 2: "necrotic core", 3: "enhancing tumour"}, {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}
    ),
    "lesion": LabelScheme({1: "lesion"}, {"lesion": (1,)}),
}
"""By the word in the participant column `label_scheme`. BraTS until 2021, UPENN-GBM and UCSF-PDGM use 4 for enhancing
tumour, BraTS 2023 and GoAT 3; nnU-Net's conversion of BraTS and the Medical Segmentation Decathlon have 1 and 2 the
other way round. In BraTS 2024 after treatment 4 is a resection cavity and no scheme here reads it."""


def check_labels(scheme: str, values: Iterable[int]) -> None:
    """Require that every value other than 0 belongs to the scheme.

    Raises:
        ValueError: unknown scheme, or values that have no meaning in it.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown label scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    known = SCHEMES[scheme].values
    if strange := sorted({int(value) for value in values} - {0, *known}):
        meant = ", ".join(f"{value} {meaning}" for value, meaning in known.items())
        raise ValueError(f"label values {strange} have no meaning in {scheme} ({meant}); is it of another release?")
