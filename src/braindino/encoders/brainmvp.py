"""BrainMVP (shaohao011/BrainMVP): a 3-D UniFormer-S of brain MR, once per contrast; weights from a local file.

It was pretrained on a single channel. So each contrast goes through it alone and gives one view, the mean over the last
map. No code of BrainMVP is used, and no weights come with this package: neither has a licence.
"""

from __future__ import annotations

from pathlib import Path

import torch

from braindino.catalog import chosen
from braindino.model.published import Layout, load_published, named, prefix_of
from braindino.model.tensor_files import read_tensors
from braindino.model.uniformer import DIMS, SIDE, UniFormer
from braindino.model.volume_encoder import VolumeEncoder
from braindino.volume.box import BoxRecipe

VARIANTS: tuple[str, ...] = ("published", "paper")
RECIPES = {
    "published": BoxRecipe((SIDE, SIDE, SIDE), "multiple", "percentile", extent="foreground"),
    "paper": BoxRecipe((128, 224, 224), "resize", "paper", orientation="SRA", spacing_mm=None),
}
"""`published`: RAS, 1 mm, cut to the foreground, 5th to 95th percentile to [0, 1], sides padded to multiples of 16.
`paper`: as the BrainDINO paper feeds it, slices first, stretched to 128 x 224 x 224, with its z-score."""
LICENCE = "none stated, so neither its code nor its weights may be passed on"
DOMAIN = "one contrast at a time; 16,022 scans of 3,755 patients in 8 contrasts"
LAYOUT = Layout(
    "BrainMVP",
    r"patch_embed1\.proj\.weight",
    329,
    (
        (r"rep_template", "templates of the contrasts, used in pretraining only"),
        (r"decoder(\..*)?", "the decoder, used in pretraining only"),
    ),
)


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> VolumeEncoder:
    """Read `BrainMVP_uniformer.pt` strictly; `seed` is not used.

    Raises:
        ValueError: no weights, an unknown variant, no BrainMVP weights, or a key that is missing, unexpected, of a
            wrong shape or not finite.
    """
    kind = chosen("brainmvp", variant, VARIANTS)
    if weights is None:
        raise ValueError("brainmvp needs --weights: BrainMVP_uniformer.pt on this machine (docs/encoders.md)")
    path = Path(weights)
    content = read_tensors(path)
    try:
        content = named(content)
        prefix = prefix_of(content, LAYOUT)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if prefix is None:
        got = ", ".join(sorted(content)[:5]) or "nothing"
        raise ValueError(f"{path} holds no BrainMVP weights: no patch_embed1.proj.weight; got {got}")
    with torch.device("meta"):
        model = UniFormer()
    report = load_published(path, content, prefix, model, LAYOUT)
    recipe = RECIPES[kind]
    return VolumeEncoder("brainmvp", model, DIMS[-1], recipe, SIDE, "mean", report, LICENCE, DOMAIN, kind)
