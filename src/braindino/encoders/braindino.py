"""Our own encoder: the EMA teacher of a pretraining run, with the recipe it was trained on."""

from __future__ import annotations

from pathlib import Path

from braindino.config import from_dict
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.weights import load_encoder
from braindino.volume.recipe import Recipe


def load(weights: Path, *, seed: int = 0) -> SliceEncoder:
    """Load `encoder.safetensors` (or the run folder that holds it), strictly; `seed` is not used.

    Raises:
        ValueError: missing, damaged or foreign weights (see `model.weights.load_encoder`).
    """
    path = Path(weights)
    model, metadata = load_encoder(path / "encoder.safetensors" if path.is_dir() else path)
    told = metadata["source"].get("seen")
    seen = None if told is None else frozenset(told)
    return SliceEncoder("braindino", model, from_dict(metadata["recipe"], Recipe), seen)
