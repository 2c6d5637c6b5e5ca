"""MedDINOv3 (arXiv 2509.02379) and the weights of the BrainDINO paper, which have its form: from a local file.

A ViT-B without a bias on queries, keys and values, with LayerNorm epsilon 1e-6 and RoPE in bfloat16; no file says so.
"""

from __future__ import annotations

from pathlib import Path

import torch

from braindino.catalog import chosen
from braindino.model.foreign import read_foreign
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.volume.recipe import Recipe

VARIANTS: tuple[str, ...] = ("published", "paper")
HU_MEAN, HU_STD, HU_LEAST = 65.11, 178.02, -1000.0
"""Of MedDINOv3's CT slices: one mean and one deviation for all of them, and the value of air, to which it clips."""
RECIPES = {
    "published": Recipe(background=(HU_LEAST - HU_MEAN) / HU_STD, size_px=256),
    "paper": Recipe(background=-3.0, size_px=224, clip_percent=(1.0, 99.0)),
}
"""`published`, for MedDINOv3: its slices of 256 px, one mean and deviation, none per channel. MR has no unit in which
they could hold for all scans, so they are those of each brain; around it lies what air is in CT.
`paper`, for the weights of the BrainDINO paper: the z-scored slices of 224 px of its tasks."""

LICENCE = "that under which the file was published"
DOMAIN = "axial slices of CT, 16 data sets (MedDINOv3); slices of brain MR, 20 data sets (the BrainDINO paper)"


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> SliceEncoder:
    """Read MedDINOv3's weights strictly (see `model.foreign.read_foreign`); `seed` is not used.

    The model takes grey slices: its three kernels are summed, which is the slice repeated in three channels.

    Args:
        weights: a `.pth` with `teacher` or a flat state dict. None of them comes with this package.
        variant: one of `VARIANTS`.

    Raises:
        ValueError: no weights or an unknown variant, a key that is not accounted for, or weights of another model.
    """
    kind = chosen("meddinov3", variant, VARIANTS)
    if weights is None:
        raise ValueError("meddinov3 needs --weights: a file of MedDINOv3's weights on this machine (docs/encoders.md)")
    state, config, report = read_foreign(Path(weights), in_channels=1)
    if report.dialect != "meddinov3":
        raise ValueError(f"{weights} holds {report.dialect} weights, {report.size}: use --encoder dinov3")
    with torch.device("meta"):
        model = VisionTransformer(config)
    model.load_state_dict(state, assign=True)
    return SliceEncoder("meddinov3", model, RECIPES[kind], kind)
