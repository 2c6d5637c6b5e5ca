"""The control: the architecture and recipe of given weights, freshly initialised and never trained."""

from __future__ import annotations

from pathlib import Path

import torch

from braindino.config import from_dict
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.volume.recipe import Recipe


def load(weights: Path, *, seed: int = 0) -> SliceEncoder:
    """An untrained twin of the encoder in `weights` (file or run folder), drawn from `seed`."""
    path = Path(weights)
    model, metadata = load_encoder(path / "encoder.safetensors" if path.is_dir() else path)
    twin = VisionTransformer(model.config, torch.Generator().manual_seed(seed))
    return SliceEncoder("random_init", twin, from_dict(metadata["recipe"], Recipe), frozenset())
