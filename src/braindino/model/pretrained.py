"""Encoders as folders in the form of Hugging Face: `config.json`, `model.safetensors`, a card. Local files only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from braindino import record
from braindino.config import from_dict, to_dict
from braindino.model.config import ViTConfig
from braindino.model.foreign import read_foreign
from braindino.model.hugging_face import rename, settings
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.model.weights import compare, digest
from braindino.types import Encoder
from braindino.volume.recipe import Recipe

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
OWN = "braindino_vit"
"""`model_type` of a transformer that transformers' DINOv3ViTModel cannot compute; its weights keep our names."""


def is_pretrained(folder: Path) -> bool:
    """Whether `folder` is one that `save_pretrained` wrote, intact or not."""
    path = Path(folder) / CONFIG
    try:
        return path.is_file() and "braindino" in json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False


def save_pretrained(encoder: Encoder, folder: Path | str) -> Path:
    """Write an encoder as a folder that `from_pretrained` opens, and transformers' `DINOv3ViTModel.from_pretrained`.

    The recipe of the input, the transformer's config and the digest of the weights stand in `config.json` under
    `braindino`. transformers has no untied norms, no other RoPE than DINOv3's and no missing LayerScale: such encoders
    get `model_type` braindino_vit and their own names of weights, and open here only. The norm of local crops, which
    is used in training only, is left out for transformers; the digest is that of what is written.

    Raises:
        ValueError: not a slice-wise encoder of this package.
    """
    if not isinstance(encoder, SliceEncoder):
        raise ValueError(f"save_pretrained writes slice-wise encoders of this package, got {type(encoder).__name__}")
    folder, config = Path(folder), encoder.model.config
    try:
        told, dialect = settings(config), "hugging_face"
    except ValueError:
        told, dialect = {"architectures": ["VisionTransformer"], "model_type": OWN}, "own"
    if dialect == "own":
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.model.state_dict().items()}
        kept, model = config, encoder.model
    else:
        tensors = rename(encoder.model, "hugging_face")
        if not config.storage_tokens:
            tensors["embeddings.register_tokens"] = torch.zeros(1, 0, config.dim)
        record.write_bytes(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))
        record.write_json(folder / CONFIG, told)
        kept, model = _from_transformers(folder, config)
    told["braindino"] = {
        "name": encoder.name,
        "vit": to_dict(kept),
        "recipe": to_dict(encoder.recipe),
        "digest": digest(model),
        "seen": None if encoder.seen is None else sorted(encoder.seen),
    }
    record.write_bytes(folder / CARD, _card(encoder, told).encode())
    record.write_bytes(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    record.write_json(folder / CONFIG, told)
    return folder


def from_pretrained(folder: Path | str, *, variant: str = "exact") -> SliceEncoder:
    """The encoder in a folder that `save_pretrained` wrote. Local files only: nothing is ever downloaded.

    Raises:
        ValueError: no such folder, one of others (see `read_foreign` for DINOv3's weights), a missing or unexpected
            tensor, a shape that does not fit the config, or weights that differ from their digest.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no folder with a {CONFIG}; download it first and give its local path")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        own = told["braindino"]
        config, recipe = from_dict(own["vit"], ViTConfig), from_dict(own["recipe"], Recipe)
        name, known, seen = str(own["name"]), str(own["digest"]), own["seen"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} was not written by save_pretrained, or is damaged ({error}); weights of others go through "
            "read_foreign"
        ) from None
    model = _own(folder, config) if told.get("model_type") == OWN else _from_transformers(folder, config)[1]
    if digest(model) != known:
        raise ValueError(f"{folder / WEIGHTS} is damaged: its tensors differ from their digest; copy it again")
    return SliceEncoder(name, model, recipe, variant, None if seen is None else frozenset(seen))


def _from_transformers(folder: Path, wanted: ViTConfig) -> tuple[ViTConfig, VisionTransformer]:
    """The transformer of weights under transformers' names, and its config: `wanted` but for what they do not hold."""
    config = from_dict(to_dict(wanted) | {"untie_global_and_local_cls_norm": False}, ViTConfig)
    state, _, _ = read_foreign(folder, config)
    return config, _filled(config, state)


def _own(folder: Path, config: ViTConfig) -> VisionTransformer:
    try:
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is missing or damaged ({error}); copy the folder again") from None
    with torch.device("meta"):
        expected = VisionTransformer(config).state_dict()
    if problems := compare(expected, state):
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}:\n{problems}")
    return _filled(config, state)


def _filled(config: ViTConfig, state: dict[str, torch.Tensor]) -> VisionTransformer:
    with torch.device("meta"):
        model = VisionTransformer(config)
    model.load_state_dict(state, assign=True)
    return model.eval()


def _card(encoder: SliceEncoder, told: dict[str, Any]) -> str:
    """A model card: what it is, what it expects, how it is opened, what nobody has shown."""
    vit, recipe = encoder.model.config, encoder.recipe
    usable = told["model_type"] != OWN
    transformers = (
        "\nWithout this package, on slices prepared by that recipe:\n\n```python\nfrom transformers import "
        'DINOv3ViTModel\n\nmodel = DINOv3ViTModel.from_pretrained("this folder")  # CLS token: pooler_output\n```\n'
    )
    return f"""---
library_name: braindino
tags: [brain MRI, feature extraction]
---

# {encoder.name}: a frozen encoder of brain MRI

A vision transformer (dim {vit.dim}, {vit.depth} blocks, {vit.heads} heads, patches of {vit.patch_size} px, \
{vit.in_channels} channel{"s" if vit.in_channels > 1 else ""}) that turns each axial slice into one vector.

Input: {recipe.slices} slices of {recipe.size_px} x {recipe.size_px} px at {recipe.spacing_mm:g} mm, clipped and \
z-scored inside the brain, {recipe.background:g} outside; recipe {recipe.hash()}.

SHA-256 of the weights: {told["braindino"]["digest"]}

```python
import braindino as bd

encoder = bd.from_pretrained("this folder")
tokens = encoder.tokens(bd.read_volume("sub-01_T1w.nii.gz"))
```
{transformers if usable else ""}
For research. Not a medical device; what it says about a patient has not been shown by this folder. Who trained it on
what, and under which licence it may be used, is for its author to add here.
"""
