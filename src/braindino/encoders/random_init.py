"""The control: the architecture and recipe of given weights, freshly initialised and never trained."""

from __future__ import annotations

from pathlib import Path

import torch

from braindino.catalog import chosen
from braindino.config import from_dict
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.volume.recipe import Recipe

VARIANTS = ("exact", "bf16", "brain")
"""As of `braindino`."""


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> SliceEncoder:
    """An untrained twin of the encoder in `weights` (file or run folder), drawn from `seed`.

    Raises:
        ValueError: no, missing, damaged or foreign weights; an unknown variant.
    """
    kind = chosen("random_init", variant, VARIANTS)
    if weights is None:
        raise ValueError("this encoder is a twin of others' shape: give their encoder.safetensors or run folder")
    path = Path(weights)
    model, metadata = load_encoder(path / "encoder.safetensors" if path.is_dir() else path)
    twin = VisionTransformer(model.config, torch.Generator().manual_seed(seed))
    return SliceEncoder("random_init", twin, from_dict(metadata["recipe"], Recipe), kind, frozenset())
