"""BM-MAE, a masked autoencoder of tumour MRI in 3-D: any of T1w, T1ce, T2w and FLAIR seen at once, from a local file.

Each contrast has patches of its own, which one transformer sees together, so that a case gives one view whatever
contrasts it has. The weights are not free and do not come with this package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from braindino.catalog import chosen
from braindino.model.key_report import Report
from braindino.model.published import Layout, load_published, named, prefix_of
from braindino.model.tensor_files import read_tensors
from braindino.model.volume_vit import JointViT
from braindino.model.weights import digest
from braindino.types import Tokens, Volume
from braindino.volume.box import BoxRecipe, to_box

VARIANTS: tuple[str, ...] = ("published", "brain_centred", "paper")
"""`published`: all contrasts in one view, the middle of the array. `brain_centred`: the same about the middle of the
brain, for scans that do not lie on the grid of BraTS. `paper`: as the BrainDINO paper uses it, each contrast by itself
through the tokens of T1w."""
TOKENIZERS = {"T1w": "t1", "T1ce": "t1ce", "T2w": "t2", "FLAIR": "flair"}
"""Our names of the contrasts, and the original's."""
LICENCE = "CC BY-NC 4.0"
DOMAIN = "adult glioma before treatment, four contrasts (BraTS 2021); for tasks on TCGA patients take bmmae_tcga.pth"
KEYS, KEYS_OF_A_CONTRAST = 147, 3
PATCH, DIM = 16, 768

RECIPE = BoxRecipe((128, 128, 128), "centre", "zscore", orientation="LPS")
RECIPES = {
    "published": RECIPE,
    "brain_centred": replace(RECIPE, extent=(128.0, 128.0, 128.0)),
    "paper": BoxRecipe((128, 128, 128), "resize", "paper", orientation="SRA", spacing_mm=None),
}
"""LPS is the order that BraTS stores, which the original does not change. The paper's loader puts slices first and
takes the array as it is; that of files stored in RAS."""


@dataclass(frozen=True)
class JointEncoder:
    """The frozen transformer with its recipe (the `Encoder` protocol of `types`)."""

    model: JointViT
    recipe: BoxRecipe
    joint: bool
    """One view of all contrasts; else one per contrast, each through the tokens of T1w."""
    report: Report
    """How the weights were read."""
    licence: str = LICENCE
    domain: str = DOMAIN
    name: str = "bm_mae"
    dim: int = DIM
    patch: int = PATCH
    """Voxels of the box along each side of a patch."""
    variant: str = "published"
    """One of `VARIANTS`."""

    def digest(self) -> str:
        """SHA-256 over all weights."""
        return digest(self.model)

    @torch.inference_mode()
    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """CLS (and with `patches` patch) tokens; a patch token of a joint view is the mean of its contrasts' there.

        Raises:
            ValueError: a contrast without a tokenizer, or one that is there twice; a scan that `to_box` refuses.
        """
        views = [self._tokenizers(volume.contrasts)] if self.joint else [["t1"]] * len(volume.contrasts)
        box = to_box(volume, self.recipe)
        images = torch.from_numpy(box.voxels).to(next(self.model.parameters()).device)
        parts = images[None].unbind(0) if self.joint else images[:, None].unbind(0)
        outputs = [self.model(x[None], names) for x, names in zip(parts, views, strict=True)]
        return Tokens(
            cls=np.concatenate([cls.cpu().numpy() for cls, _ in outputs]),
            patch=np.concatenate([patch.mean(dim=1).cpu().numpy() for _, patch in outputs]) if patches else None,
            storage=None,
            grid=tuple(side // self.patch for side in box.voxels.shape[1:]),
            position_mm=np.zeros(len(views), np.float32),
            contrasts=("+".join(volume.contrasts),) if self.joint else volume.contrasts,
            prepared=box,
        )

    def _tokenizers(self, contrasts: tuple[str, ...]) -> list[str]:
        """The tokenizer of each contrast."""
        for contrast in contrasts:
            if contrasts.count(contrast) > 1:
                raise ValueError(f"bm_mae sees each contrast once, got {contrast} twice; choose one with --contrasts")
            if TOKENIZERS.get(contrast, "") not in self.model.tokenizers:
                known = ", ".join(ours for ours, theirs in TOKENIZERS.items() if theirs in self.model.tokenizers)
                raise ValueError(f"these bm_mae weights know {known}, got {contrast!r}; choose with --contrasts")
        return [TOKENIZERS[contrast] for contrast in contrasts]


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> JointEncoder:
    """Read `bmmae.pth` or `bmmae_tcga.pth` strictly, with all four tokenizers or fewer; `seed` is not used.

    Raises:
        ValueError: no weights, an unknown variant, no BM-MAE weights, a tokenizer of an unknown contrast, or a key that
            is missing, unexpected, of a wrong shape or not finite.
    """
    kind = chosen("bm_mae", variant, VARIANTS)
    if weights is None:
        raise ValueError("bm_mae needs --weights: bmmae.pth or bmmae_tcga.pth on this machine (docs/encoders.md)")
    path = Path(weights)
    content = read_tensors(path)
    try:
        content = named(content)
        prefix = prefix_of(content, layout_of(0))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if prefix is None:
        got = ", ".join(sorted(content)[:5]) or "nothing"
        raise ValueError(f"{path} holds no BM-MAE weights: no tokenizers.t1 or other tokenizer; got {got}")
    places = (re.match(rf"{re.escape(prefix)}tokenizers\.(\w+)\.", key) for key in content)
    present = {place[1] for place in places if place}
    found = [name for name in TOKENIZERS.values() if name in present]
    if kind == "paper" and "t1" not in found:
        raise ValueError(f"{path} has no tokenizer of t1, which the variant 'paper' sends every contrast through")
    with torch.device("meta"):
        model = JointViT(found)
    report = load_published(path, content, prefix, model, layout_of(len(found)))
    return JointEncoder(model, RECIPES[kind], kind != "paper", report, variant=kind)


def layout_of(contrasts: int) -> Layout:
    """The layout with so many tokenizers."""
    return Layout(
        "BM-MAE",
        r"tokenizers\.\w+\.patch_embedding\.position_embeddings",
        KEYS + KEYS_OF_A_CONTRAST * contrasts,
        (
            (r"decoder(\..*)?", "the decoder, used in pretraining only"),
            (r"blocks\.\d+\.(cross_attn|norm_cross_attn)\..*", "cross-attention that MONAI owns and never uses"),
        ),
    )
