"""An encoder as a folder that `transformers` opens: `DINOv3ViTModel.from_pretrained(folder)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from braindino import record
from braindino.model.config import ViTConfig
from braindino.model.dialects import Dialect, pieces
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder


def export_hugging_face(weights: Path, folder: Path) -> Path:
    """Write an encoder file as `model.safetensors` and `config.json` of transformers' DINOv3ViTModel.

    Its tokens are those of the encoder to rounding (CLS = `pooler_output`). The recipe for the input and the digest of
    the encoder stand in `config.json` under `braindino`. Norms of local crops, which are used in training only, are
    left out, as in the released models, and RoPE periods are computed there (of Meta's weights they were rounded).

    Raises:
        ValueError: not an encoder file, or a transformer that DINOv3ViTModel cannot compute; the message says why.
    """
    model, metadata = load_encoder(Path(weights))
    config = settings(model.config)
    config["braindino"] = {name: metadata[name] for name in ("recipe", "source", "digest")}
    tensors = rename(model, "hugging_face")
    if not model.config.storage_tokens:
        tensors["embeddings.register_tokens"] = torch.zeros(1, 0, model.config.dim)
    record.write_bytes(Path(folder) / "model.safetensors", safetensors.torch.save(tensors, metadata={"format": "pt"}))
    record.write_json(Path(folder) / "config.json", config)
    return Path(folder)


def rename(model: VisionTransformer, dialect: Dialect) -> dict[str, Tensor]:
    """Weights under the names of a dialect, cut where it stores pieces; what it does not know is left out."""
    given: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if dialect != "meta" and name.startswith("local_cls_norm."):
            continue
        names = pieces(dialect, name, model.config)
        for piece, part in zip(names, tensor.chunk(max(len(names), 1)), strict=bool(names)):
            if piece is not None:
                given[piece] = part.detach().cpu().clone()
    if dialect == "hugging_face":
        given["embeddings.mask_token"] = given["embeddings.mask_token"][None]
    return given


def settings(config: ViTConfig) -> dict[str, Any]:
    """`config.json` of transformers' DINOv3ViTConfig.

    Raises:
        ValueError: a transformer that DINOv3ViTModel cannot compute; the message says why.
    """
    only = {
        "untie_cls_and_patch_norms": False,
        "rope_normalize": "separate",
        "rope_periods": None,
        "rope_dtype": "float32",
    }
    other = [f"{name} {getattr(config, name)}" for name, value in only.items() if getattr(config, name) != value]
    if config.layer_scale is None:
        other.append("layer_scale None")
    if other:
        raise ValueError(f"transformers' DINOv3ViTModel has no {', '.join(other)}; this encoder cannot be exported")
    return {
        "architectures": ["DINOv3ViTModel"],
        "model_type": "dinov3_vit",
        "dtype": "float32",
        "patch_size": config.patch_size,
        "num_channels": config.in_channels,
        "hidden_size": config.dim,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_register_tokens": config.storage_tokens,
        "use_gated_mlp": config.ffn != "mlp",
        "hidden_act": "gelu" if config.ffn == "mlp" else "silu",
        "query_bias": config.qkv_bias,
        "key_bias": config.qkv_bias and not config.mask_k_bias,
        "value_bias": config.qkv_bias,
        "layer_norm_eps": config.norm_eps,
        "layerscale_value": config.layer_scale,
        "drop_path_rate": config.drop_path,
        "rope_theta": config.rope_base,
        "pos_embed_shift": config.rope_shift,
        "pos_embed_jitter": config.rope_jitter,
        "pos_embed_rescale": config.rope_rescale,
    }
