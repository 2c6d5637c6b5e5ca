"""Our own encoder: the EMA teacher of a pretraining run, with the recipe it was trained on."""

from __future__ import annotations

from pathlib import Path

from braindino.catalog import chosen
from braindino.config import from_dict
from braindino.model.pretrained import from_pretrained, is_pretrained
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.weights import load_encoder
from braindino.volume.recipe import Recipe

VARIANTS = ("exact", "bf16", "brain")
"""`exact`: every patch of a slice. `bf16`: its linear layers and attention in bfloat16, which is near it. `brain`:
patches without brain are left out, which is not. Both are faster, and other encoders."""


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> SliceEncoder:
    """Load `encoder.safetensors`, the run folder that holds it, or a folder of `save_pretrained`; `seed` is not used.

    Raises:
        ValueError: no, missing, damaged or foreign weights (see `model.weights.load_encoder`); an unknown variant.
    """
    kind = chosen("braindino", variant, VARIANTS)
    if weights is None:
        raise ValueError("this encoder needs weights: give encoder.safetensors, or the run folder that holds it")
    path = Path(weights)
    if is_pretrained(path):
        return from_pretrained(path, variant=kind)
    model, metadata = load_encoder(path / "encoder.safetensors" if path.is_dir() else path)
    told = metadata["source"].get("seen")
    seen = None if told is None else frozenset(told)
    return SliceEncoder("braindino", model, from_dict(metadata["recipe"], Recipe), kind, seen)
