"""BrainMVP (shaohao011/BrainMVP): a 3-D UniFormer-S of brain MR, once per contrast; weights from a local file.

It was pretrained on a single channel. So each contrast goes through it alone and gives one view, the mean over the map
of the last stage. No code of BrainMVP is used, and no weights come with this package: neither has a licence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braindino.catalog import suggest
from braindino.model.key_report import Line, Report
from braindino.model.tensor_files import read_tensors
from braindino.model.uniformer import DIMS, SIDE, UniFormer
from braindino.model.weights import digest
from braindino.types import Tokens, Volume
from braindino.volume.box import BoxRecipe, to_box

VARIANTS: tuple[str, ...] = ("published", "paper")
RECIPES = {
    "published": BoxRecipe((SIDE, SIDE, SIDE), "multiple", "percentile", extent="foreground"),
    "paper": BoxRecipe((128, 224, 224), "resize", "paper", orientation="SRA", spacing_mm=None),
}
"""`published`: RAS, 1 mm, cut to the foreground, 5th to 95th percentile to [0, 1], sides padded to multiples of 16.
`paper`: as the BrainDINO paper feeds it, slices first, stretched to 128 x 224 x 224, with its z-score."""
BACKBONE = "encoder.uniformer."
PREFIX = re.compile(r"(?:state_dict\.)?(?:module\.)?")
IGNORED: tuple[tuple[str, str], ...] = (
    (r"rep_template", "templates of the contrasts, used in pretraining only"),
    (r"decoder\..*", "the decoder of pretraining"),
    (r"(optimizer|scheduler)\..*|current_epoch|val_best", "state of its trainer"),
)
"""Keys that may be left out, and why; whatever else is left over is an error."""


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> BrainMVP:
    """Read `BrainMVP_uniformer.pt` strictly; `seed` is not used.

    Args:
        weights: the file; `state_dict.`, `module.` and `encoder.uniformer.` may stand before the keys.
        variant: one of `VARIANTS`.

    Raises:
        ValueError: no weights or an unknown variant, or a key that is missing, unexpected, of a wrong shape or not
            finite; the message names them.
    """
    if variant not in ("", *VARIANTS):
        raise ValueError(f"unknown variant {variant!r} of brainmvp{suggest(variant, VARIANTS)}")
    if weights is None:
        raise ValueError("brainmvp needs --weights: BrainMVP_uniformer.pt on this machine (docs/encoders.md)")
    return BrainMVP(read_uniformer(Path(weights))[0], RECIPES[variant or VARIANTS[0]])


@dataclass(frozen=True)
class BrainMVP:
    """The `Encoder` protocol of `types`. One view per contrast, no storage tokens."""

    model: UniFormer
    recipe: BoxRecipe
    name: str = "brainmvp"
    dim: int = DIMS[-1]

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    def digest(self) -> str:
        """SHA-256 over all weights."""
        return digest(self.model)

    @torch.inference_mode()
    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """The mean of the last map of each contrast, and with `patches` the map, one token per 16 x 16 x 16 voxels.

        Raises:
            ValueError: see `to_box`.
        """
        prepared = to_box(volume, self.recipe)
        device = next(self.model.parameters()).device
        maps = [self.model(torch.from_numpy(image)[None, None].to(device))[0].cpu() for image in prepared.voxels]
        tokens = np.stack([found.flatten(1).T.numpy() for found in maps])
        return Tokens(
            cls=tokens.mean(axis=1),
            patch=tokens if patches else None,
            storage=np.zeros((len(maps), 0, self.dim), np.float32) if patches else None,
            grid=tuple(maps[0].shape[1:]),
            position_mm=np.zeros(len(maps), np.float32),
            contrasts=volume.contrasts,
            prepared=prepared,
        )


def read_uniformer(path: Path) -> tuple[UniFormer, Report]:
    """The network with the weights of a file, and what became of every key.

    Raises:
        ValueError: nothing readable, or a key that is not accounted for; the message holds the report.
    """
    content = read_tensors(path)
    with torch.device("meta"):
        model = UniFormer()
    expected = model.state_dict()
    own, lines = _own(content, expected)
    state = {name: value for name, value in own.items() if name in expected}
    lines += [_line(name, place, state.get(name)) for name, place in expected.items()]
    report = Report("brainmvp", BACKBONE, "UniFormer-S", (), tuple(lines))
    if report.problems:
        raise ValueError(f"{path} does not fit:\n{report.short()}")
    model.load_state_dict(state, assign=True)
    return model, report


def _own(content: Mapping[str, Any], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Line]]:
    """Tensors by the names of `UniFormer`, and a line for every key that is none of them."""
    own: dict[str, Tensor] = {}
    lines = []
    for key, value in content.items():
        plain = PREFIX.sub("", key, count=1)
        name = plain.removeprefix(BACKBONE)
        why = next((why for pattern, why in IGNORED if re.fullmatch(pattern, plain)), None)
        if name in expected and isinstance(value, Tensor) and name not in own:
            own[name] = value.detach()
        else:
            lines.append(Line("ignored", key, why) if why else Line("unexpected", key))
    return own, lines


def _line(name: str, place: Tensor, value: Tensor | None) -> Line:
    if value is None:
        return Line("missing", name, str(tuple(place.shape)))
    if value.shape != place.shape:
        return Line("wrong shape", name, f"{tuple(value.shape)}, expected {tuple(place.shape)}")
    if value.dtype != place.dtype:
        return Line("wrong value", name, f"{value.dtype}, expected {place.dtype}")
    return Line("taken", name) if value.isfinite().all() else Line("wrong value", name, "NaN or infinite")
