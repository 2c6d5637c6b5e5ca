"""BrainIAC (Nature Neuroscience 2026), SimCLR in 3-D on brain MRI: both generations, from a local file.

Both share the name of their file; which one it is the keys tell. The second is a ViT-B/16 of 96^3 voxels without a
class token, the first a ResNet-50 of 128^3. The weights are not free and do not come with this package.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from braindino.catalog import chosen
from braindino.model.published import Layout, load_published, named, prefix_of
from braindino.model.resnet3d import ResNet3d
from braindino.model.tensor_files import read_tensors
from braindino.model.volume_encoder import Pool, VolumeEncoder
from braindino.model.volume_vit import VolumeViT
from braindino.volume.box import BoxRecipe

VARIANTS: tuple[str, ...] = ("first", "mean", "paper")
"""Of the second generation. `first`: its token 0, as published, which is the patch in the corner of the box. `mean`:
the mean of all tokens. `paper`: token 0 of the input that the BrainDINO paper gives it. The first generation has one
feature, the mean over its last map: no variant, or `mean`."""
POOL: dict[str, Pool] = {"first": "first", "mean": "mean", "paper": "first"}
LICENCE = "research only, no commercial or clinical use (Mass General Brigham)"
LICENCE_V1 = "CC BY-NC 4.0"
DOMAIN = "one contrast at a time; 32,015 brain MRIs of 16 data sets, children to old age, healthy and ill"

RECIPE = BoxRecipe((96, 96, 96), "resize", "zscore", extent=(197.0, 233.0, 189.0))
"""The template at 1 mm that the original registers to has 197 x 233 x 189 voxels in RAS order, all squeezed into a
cube. Such an extent about the brain stands in for the registration; the original's N4 is left out."""
RECIPE_V1 = replace(RECIPE, size=(128, 128, 128), intensity="min_max")
PAPER = BoxRecipe((96, 96, 96), "resize", "paper", orientation="SRA", spacing_mm=None)
"""The loader of the BrainDINO paper: slices first, the array as it is; that of files stored in RAS."""

_HEADS = (r"(projection\w*|projector|head|classifier|fc)(\..*)?", "a head, not of the encoder")
V2 = Layout(
    "BrainIAC v2",
    r"patch_embedding\.position_embeddings",
    137,
    (_HEADS, (r"blocks\.\d+\.(cross_attn|norm_cross_attn)\..*", "cross-attention that MONAI owns and never uses")),
)
V1 = Layout("BrainIAC v1", r"conv1\.weight", 322, (_HEADS,))


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> VolumeEncoder:
    """Read `BrainIAC.ckpt` of either generation, or a downstream file with its encoder, strictly; `seed` is not used.

    Raises:
        ValueError: no weights, an unknown variant or one that this generation has not, no BrainIAC weights, or a key
            that is missing, unexpected, of a wrong shape or not finite.
    """
    kind = chosen("brainiac", variant, VARIANTS)
    if weights is None:
        raise ValueError("brainiac needs --weights: BrainIAC.ckpt on this machine (docs/encoders.md)")
    path = Path(weights)
    content = read_tensors(path)
    try:
        content = named(content)
        second, first = prefix_of(content, V2), prefix_of(content, V1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if second is not None:
        return _second(path, content, second, kind)
    if first is not None:
        return _first(path, content, first, variant)
    raise ValueError(
        f"{path} holds no BrainIAC weights: neither patch_embedding.position_embeddings (second generation) nor "
        f"conv1.weight (first); got {', '.join(sorted(content)[:5]) or 'nothing'}"
    )


def _second(path: Path, content: dict[str, object], prefix: str, variant: str) -> VolumeEncoder:
    with torch.device("meta"):
        model = VolumeViT()
    report = load_published(path, content, prefix, model, V2)
    recipe, pool = PAPER if variant == "paper" else RECIPE, POOL[variant]
    return VolumeEncoder("brainiac", model, 768, recipe, 16, pool, report, LICENCE, DOMAIN, variant)


def _first(path: Path, content: dict[str, object], prefix: str, variant: str) -> VolumeEncoder:
    if variant not in ("", "mean"):
        raise ValueError(
            f"{path} is the first generation of BrainIAC (ResNet-50), which has no variant {variant!r}: its feature is "
            "the mean over its last map; leave the variant out, or give weights of the second generation"
        )
    with torch.device("meta"):
        model = ResNet3d()
    report = load_published(path, content, prefix, model, V1)
    return VolumeEncoder("brainiac", model, 2048, RECIPE_V1, 32, "mean", report, LICENCE_V1, DOMAIN)
