"""DINOv3 (arXiv 2508.10104), of photographs: weights from a local file, as Meta, transformers or timm name them.

`published`: slices scaled to [0, 1] and normalised per channel, as DINOv3's own pictures are. `paper`: as the BrainDINO
paper feeds it, z-scored slices without these statistics. A slice is repeated in three channels, in either.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from braindino.catalog import chosen
from braindino.model.foreign import read_foreign
from braindino.model.pixels import for_grey
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.volume.recipe import Recipe

VARIANTS: tuple[str, ...] = ("published", "paper")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, per channel."""
WINDOW = (-3.0, 3.0)
"""What is black and what is white, in standard deviations from the mean of the brain. Ours, since a scan has no scale
of its own: black is the background of the recipe."""
RECIPES = {
    "published": Recipe(background=WINDOW[0], size_px=224),
    "paper": Recipe(background=-3.0, size_px=224, clip_percent=(1.0, 99.0)),
}
"""The paper's loader of tasks clips at the 1st and 99th percentile."""
LICENCE = "DINOv3 License: passed on under the same terms only, with an acknowledgement"
DOMAIN = "photographs of the web (LVD-1689M)"


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> SliceEncoder:
    """Read DINOv3 weights strictly (see `model.foreign.read_foreign`); `seed` is not used.

    The model takes grey slices: what is done to the pixels is a part of its first layer (see `model.pixels`), and so of
    its digest.

    Args:
        weights: `.pth`, `.safetensors`, ... or a folder of transformers. None of them comes with this package.
        variant: one of `VARIANTS`.

    Raises:
        ValueError: no weights or an unknown variant, a key that is not accounted for, weights of another model, or
            weights trained on satellite pictures, whose statistics are others.
    """
    kind = chosen("dinov3", variant, VARIANTS)
    if weights is None:
        raise ValueError("dinov3 needs --weights: a file of DINOv3 weights on this machine (docs/encoders.md)")
    if "sat493m" in Path(weights).name:
        raise ValueError(f"{weights} was trained on satellite pictures (SAT-493M); give the weights named lvd1689m")
    paper = variant == "paper"
    state, config, report = read_foreign(Path(weights), in_channels=1 if paper else None)
    if report.dialect == "meddinov3":
        raise ValueError(f"{weights} has no bias on queries, keys and values: use --encoder meddinov3")
    if not paper:
        state, config = for_grey(state, MEAN, STD, WINDOW), replace(config, in_channels=1)
    with torch.device("meta"):
        model = VisionTransformer(config)
    model.load_state_dict(state, assign=True)
    return SliceEncoder("dinov3", model, RECIPES[kind], kind)
