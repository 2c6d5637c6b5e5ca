"""dataset.json of nnU-Net (version 2, and the Medical Segmentation Decathlon's): channels, label values, endings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braindino.catalog import suggest
from braindino.layouts.labels import SCHEMES

ENDINGS = (".nii.gz", ".nii")
_CONTRASTS = {
    "T1w": ("t1", "t1w", "t1n", "t1native"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1wce", "t1cw", "t1post", "t1wpost", "t1contrast", "t1km"),
    "T2w": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f", "t2flair", "flairw"),
    "PDw": ("pd", "pdw"),
    "T2starw": ("t2star", "t2starw"),
}
_MEANINGS = {
    "oedema": r"^(peritumou?r(al)?)?o?edema$|^ed$|^surrounding|^snfh$",
    "necrotic core": r"necro|nonenhanc|^ncr|^net$",
    "enhancing tumour": r"^enhancing|^et$|^at$|^gdenhancing",
    "WT": r"^whole|^wt$",
    "TC": r"core$|^tc$",
    "lesion": r"lesion|stroke|infarct|tumou?r|wmh|hyperintens",
}
"""Tried in this order on the letters of a name; a region has a list of values, anything else one value."""


@dataclass(frozen=True)
class Description:
    """What dataset.json says."""

    contrasts: tuple[str, ...]
    """Of each channel, in the order of their numbers."""
    scheme: str
    """Label scheme (see `layouts.labels`), "" where the labels fit none."""
    labels: str
    """The labels as they stand there, for messages."""
    ending: str
    files: Mapping[str, tuple[dict[int, str], str]]
    """Case to its images by channel and its label map, where the file lists them; else empty."""


def read_description(root: Path) -> Description:
    """Read `root`/dataset.json.

    Raises:
        ValueError: no such file or no JSON, no channels, a channel that is no contrast known here, two channels of one
            contrast, or files that are not NIfTI.
    """
    path = Path(root) / "dataset.json"
    if not path.is_file():
        raise ValueError(
            f"{root} has no dataset.json; expected a folder of nnU-Net's raw data with it, imagesTr/ and labelsTr/"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names, labels = told.get("channel_names", told.get("modality")), told.get("labels", {})
        channels = [str(names[key]) for key in sorted(names, key=int)]
        ending = str(told.get("file_ending", ENDINGS[0]))
        scheme, listed = _scheme(labels), told.get("dataset", {})
        files = {
            str(name): (dict(enumerate(map(str, one["images"][: len(channels)]))), str(one.get("label", "")))
            for name, one in (listed.items() if isinstance(listed, dict) else ())
        }
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} is no description of nnU-Net ({error}); see nnU-Net's dataset_format.md") from None
    if ending not in ENDINGS:
        raise ValueError(f"{path}: file_ending is {ending!r}, expected {' or '.join(ENDINGS)}; convert the images")
    contrasts = [_contrast(name, path) for name in channels]
    if len({*contrasts}) < len(contrasts):
        raise ValueError(f"{path}: channels {', '.join(channels)} name one contrast twice; give each its own name")
    return Description(tuple(contrasts), scheme, str(labels), ending, files)


def _contrast(name: str, path: Path) -> str:
    plain = re.sub(r"[^a-z0-9*]", "", name.lower()).replace("*", "star")
    found = next((contrast for contrast, words in _CONTRASTS.items() if plain in words), None)
    if found is None:
        hint = suggest(name, tuple(_CONTRASTS))
        raise ValueError(f"{path}: channel {name!r} is no contrast of brain MRI that is known here{hint}")
    return found


def _scheme(labels: Mapping[str, Any]) -> str:
    """The one scheme whose values or regions are those of `labels`, in either direction of nnU-Net's two versions."""
    if all(re.fullmatch(r"\d+", str(key)) for key in labels):
        labels = {str(name): int(value) for value, name in labels.items()}
    values, regions = {}, {}
    for name, value in labels.items():
        if value == 0 or name == "ignore":
            continue
        plain = re.sub(r"[^a-z]", "", name.lower())
        meaning = next((word for word, pattern in _MEANINGS.items() if re.search(pattern, plain)), plain)
        if isinstance(value, list):
            region = "ET" if meaning == "enhancing tumour" else meaning
            regions[region] = {int(one) for one in value}
        else:
            values[int(value)] = meaning
    if regions:
        for value, meaning in values.items():  # a region of one value may stand there without a list
            regions["ET" if meaning == "enhancing tumour" else meaning] = {value}
        return next((n for n, s in SCHEMES.items() if {k: {*v} for k, v in s.regions.items()} == regions), "")
    return next((n for n, s in SCHEMES.items() if dict(s.values) == values), "")
