"""The config that a set of weights implies: sizes from the shapes, the rest from where the weights come from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from braindino.config import from_dict
from braindino.model.config import PRESETS, ViTConfig
from braindino.model.dialects import Dialect, pieces

_OF_TRANSFORMERS = {
    "layer_norm_eps": "norm_eps",
    "rope_theta": "rope_base",
    "drop_path_rate": "drop_path",
    "pos_embed_shift": "rope_shift",
    "pos_embed_jitter": "rope_jitter",
    "pos_embed_rescale": "rope_rescale",
}
"""Settings of transformers' DINOv3ViTConfig that no shape tells, and ours."""

_SIZES_OF_TRANSFORMERS = {
    "hidden_size": "dim",
    "num_hidden_layers": "depth",
    "intermediate_size": "hidden",
    "patch_size": "patch_size",
    "num_channels": "in_channels",
    "num_register_tokens": "storage_tokens",
}
"""Settings that the shapes tell too, so that a config.json of other weights is seen."""


def infer_config(
    dialect: Dialect, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> tuple[ViTConfig, tuple[str, ...]]:
    """Config of the weights `tensors` of a backbone, and what in it is assumed, since neither shape nor file tells it.

    Args:
        dialect: how the keys are named.
        tensors: by their keys, without what stands before the backbone's names.
        settings: of transformers' config.json; empty where there is none.

    Raises:
        ValueError: a weight that decides a size is missing or has an impossible shape (a config must be given), or
            config.json is of other weights.
    """

    def shape(name: str) -> tuple[int, ...] | None:
        keys = [piece for piece in pieces(dialect, name, ViTConfig()) if piece is not None]
        return tuple(tensors[keys[0]].shape) if keys and keys[0] in tensors else None

    dim, patch = (shape("cls_token") or (0,))[-1], shape("patch_embed.proj.weight")
    fc1, w1 = shape("blocks.0.mlp.fc1.weight"), shape("blocks.0.mlp.w1.weight")
    gated = w1 is not None
    hidden = w1 or fc1
    if not dim or patch is None or len(patch) != 4 or hidden is None or len(hidden) != 2:
        raise ValueError("the size cannot be told from the cls_token, patch embedding and feed-forward; give a config")
    blocks = {int(found[1]) for key in tensors if (found := re.match(r"(?:blocks|layer)\.(\d+)\.", key))}
    known: dict[str, Any] = {
        "dim": dim,
        "depth": len(blocks),
        "patch_size": patch[-1],
        "in_channels": patch[1],
        "ffn": "swiglu" if gated else "mlp",
        "mlp_ratio": _ratio(dim, hidden[0], gated=gated),
        "storage_tokens": (shape("storage_tokens") or (1, 0, dim))[1],
        "qkv_bias": shape("blocks.0.attn.qkv.bias") is not None,
        "mask_k_bias": _masked(dialect, tensors),
        "layer_scale": ViTConfig.layer_scale if shape("blocks.0.ls1.gamma") else None,
        "untie_cls_and_patch_norms": "cls_norm.weight" in tensors,
        "untie_global_and_local_cls_norm": "local_cls_norm.weight" in tensors,
    }
    heads, told = _heads(dim, len(blocks), tensors.get("rope_embed.periods"), settings)
    free, assumed = _settings(dialect, settings)
    config = from_dict(known | {"heads": heads} | free, ViTConfig)
    for theirs, ours in _SIZES_OF_TRANSFORMERS.items():
        if settings.get(theirs, getattr(config, ours)) != getattr(config, ours):
            raise ValueError(f"config.json has {theirs} {settings[theirs]!r}, the weights {getattr(config, ours)}")
    return config, (*told, *assumed)


def name_of(config: ViTConfig) -> str:
    """The size's name, or its numbers where it has none."""
    sizes = ("dim", "depth", "heads", "hidden", "patch_size")
    for name, known in PRESETS.items():
        same = all(getattr(config, size) == getattr(known, size) for size in sizes)
        if same and (config.ffn == "mlp") == (known.ffn == "mlp"):
            return name
    numbers = ", ".join(f"{size} {getattr(config, size)}" for size in sizes)
    return numbers if config.ffn == "mlp" else f"{numbers}, SwiGLU"


def _ratio(dim: int, hidden: int, *, gated: bool) -> float:
    """A ratio for which `ViTConfig.hidden` is `hidden`."""
    ratio = hidden / dim * (1.5 if gated else 1)
    return ratio if int(dim * ratio) >= hidden else math.nextafter(ratio, math.inf)


def _masked(dialect: Dialect, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the key third of the bias is held at zero."""
    if dialect == "hugging_face":
        return "layer.0.attention.k_proj.bias" not in tensors
    unmasked = "blocks.0.attn.qkv.bias" in tensors and "blocks.0.attn.qkv.bias_mask" not in tensors
    return dialect == "timm" or not unmasked


def _heads(dim: int, depth: int, periods: Tensor | None, settings: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    if periods is not None and periods.numel() and dim % (4 * periods.numel()) == 0:
        return dim // (4 * periods.numel()), ()
    if "num_attention_heads" in settings:
        return settings["num_attention_heads"], ()
    for known in PRESETS.values():
        if (known.dim, known.depth) == (dim, depth):
            return known.heads, ()
    if dim % 64:
        raise ValueError(f"the number of heads cannot be told from dim {dim}; give a config")
    return dim // 64, (f"heads {dim // 64}",)


def _settings(dialect: Dialect, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    if dialect == "hugging_face" and settings:
        wrong = {"hidden_act": ("gelu", "silu"), "model_type": ("dinov3_vit",)}
        for name, allowed in wrong.items():
            if settings.get(name, allowed[0]) not in allowed:
                raise ValueError(f"config.json has {name} {settings[name]!r}, expected {' or '.join(allowed)}")
        return {ours: settings[theirs] for theirs, ours in _OF_TRANSFORMERS.items() if theirs in settings}, ()
    own = dialect == "meddinov3"
    free = {"norm_eps": 1e-6 if own else 1e-5, "rope_dtype": "bfloat16" if own else "float32"}
    return free, (f"norm_eps {free['norm_eps']:g}", f"RoPE in {free['rope_dtype']}")
