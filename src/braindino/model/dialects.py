"""How others name the weights of this transformer: one small table per dialect, read in both directions.

Our names are those of the DINOv3 files. A rule is a pattern of our names and the names of its pieces over there, which
are joined along the rows; a piece None is zeros, and no piece at all means that the dialect does not store it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

from braindino.model.config import PRESETS, ViTConfig

Dialect = Literal["meta", "meddinov3", "hugging_face", "timm"]
Rules = tuple[tuple[str, tuple[str | None, ...]], ...]

_BLOCK = r"blocks\.(\d+)\."
_NOT_STORED: Rules = ((r"rope_embed\.periods", ()), (_BLOCK + r"attn\.qkv\.bias_mask", ()))

RULES: dict[Dialect, Rules] = {
    "meta": ((r".*", (r"\g<0>",)),),
    "meddinov3": ((r".*", (r"\g<0>",)),),
    "hugging_face": (
        *_NOT_STORED,
        (r"cls_token|mask_token", (r"embeddings.\g<0>",)),
        (r"storage_tokens", (r"embeddings.register_tokens",)),
        (r"patch_embed\.proj\.(weight|bias)", (r"embeddings.patch_embeddings.\1",)),
        (_BLOCK + r"attn\.qkv\.weight", tuple(rf"layer.\1.attention.{part}_proj.weight" for part in "qkv")),
        (_BLOCK + r"attn\.qkv\.bias", (r"layer.\1.attention.q_proj.bias", None, r"layer.\1.attention.v_proj.bias")),
        (_BLOCK + r"attn\.proj\.(weight|bias)", (r"layer.\1.attention.o_proj.\2",)),
        (_BLOCK + r"ls([12])\.gamma", (r"layer.\1.layer_scale\2.lambda1",)),
        (_BLOCK + r"mlp\.(?:fc1|w2)\.(weight|bias)", (r"layer.\1.mlp.up_proj.\2",)),
        (_BLOCK + r"mlp\.(?:fc2|w3)\.(weight|bias)", (r"layer.\1.mlp.down_proj.\2",)),
        (_BLOCK + r"mlp\.w1\.(weight|bias)", (r"layer.\1.mlp.gate_proj.\2",)),
        (_BLOCK + r"(.*)", (r"layer.\1.\2",)),
        (r".*", (r"\g<0>",)),
    ),
    "timm": (
        *_NOT_STORED,
        (r"mask_token", ()),
        (r"storage_tokens", ("reg_token",)),
        (_BLOCK + r"attn\.qkv\.bias", (r"blocks.\1.attn.q_bias", None, r"blocks.\1.attn.v_bias")),
        (_BLOCK + r"ls([12])\.gamma", (r"blocks.\1.gamma_\2",)),
        (_BLOCK + r"mlp\.w1\.(weight|bias)", (r"blocks.\1.mlp.fc1_g.\2",)),
        (_BLOCK + r"mlp\.w2\.(weight|bias)", (r"blocks.\1.mlp.fc1_x.\2",)),
        (_BLOCK + r"mlp\.w3\.(weight|bias)", (r"blocks.\1.mlp.fc2.\2",)),
        (r".*", (r"\g<0>",)),
    ),
}
"""`meta`: facebookresearch/dinov3, flat or with its training prefixes. `meddinov3`: the same names, built without a
bias on queries, keys and values, with LayerNorm epsilon 1e-6 and RoPE in bfloat16 (MedDINOv3, and the BrainDINO of the
paper). `hugging_face`: transformers' DINOv3ViTModel. `timm`: its `eva` models `vit_*_dinov3`."""

_KEY_BIAS = (_BLOCK + r"attn\.qkv\.bias", tuple(rf"layer.\1.attention.{part}_proj.bias" for part in "qkv"))
"""transformers stores a bias on keys only where it is not masked."""

IGNORED: tuple[tuple[str, str], ...] = (
    (r"(dino_head|ibot_head|head|classifier)\..*", "a head, not of the backbone"),
    (r"local_cls_norm\..*", "a norm of local crops, used in training only"),
    (r"rope\w*\.inv_freq", "RoPE periods are computed from the config"),
)
"""Keys that may be left out, and why; whatever else is left over is an error."""


def pieces(dialect: Dialect, name: str, config: ViTConfig) -> tuple[str | None, ...]:
    """Names in `dialect` of the pieces of our weight `name`, in their order along the rows."""
    rules = RULES[dialect]
    if dialect == "hugging_face" and not config.mask_k_bias:
        rules = (_KEY_BIAS, *rules)
    for pattern, templates in rules:
        found = re.fullmatch(pattern, name)
        if found:
            return tuple(None if template is None else found.expand(template) for template in templates)
    raise AssertionError(f"no rule for {name}")


def why_ignored(key: str) -> str | None:
    """Why `key` may be left out, or None where it may not."""
    return next((why for pattern, why in IGNORED if re.fullmatch(pattern, key)), None)


def canonical(key: str) -> str:
    """`key` without what torch.compile, checkpointing, FSDP and a live transformers module put between its parts."""
    plain = re.sub(r"(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.", "", key)
    return re.sub(r"(^|\.)model\.layer\.(?=\d)", r"\1layer.", plain)


def find_backbone(keys: Collection[str]) -> str:
    """What stands before the names of the backbone, e.g. `teacher.backbone.`; the teacher's where there are several.

    Raises:
        ValueError: no CLS token, or several backbones of which none (or more than one) is the teacher's.
    """
    anchors = (re.fullmatch(r"(|.*?\.)(?:embeddings\.)?cls_token", key) for key in keys)
    found = sorted({anchor[1] for anchor in anchors if anchor})
    if not found:
        raise ValueError(
            "no DINOv3 weights: no key is, or ends in, cls_token or embeddings.cls_token; "
            f"got {', '.join(sorted(keys)[:5]) or 'no tensor'}"
        )
    teachers = [prefix for prefix in found if "teacher" in prefix.split(".")]
    if len(found) > 1 and len(teachers) != 1:
        raise ValueError(f"several backbones, {', '.join(map(repr, found))}; save the one that is meant by itself")
    return found[0] if len(found) == 1 else teachers[0]


def detect(tensors: Mapping[str, Tensor]) -> Dialect:
    """The dialect that a backbone's weights are written in.

    Raises:
        ValueError: none of them.
    """
    if "embeddings.cls_token" in tensors:
        return "hugging_face"
    if "blocks.0.gamma_1" in tensors:
        return "timm"
    if "blocks.0.attn.qkv.weight" not in tensors:
        raise ValueError("no DINOv3 weights: a cls_token, but no blocks.0.attn.qkv.weight")
    largest = tensors["blocks.0.attn.qkv.weight"].shape[-1:] == (PRESETS["7b"].dim,)
    return "meta" if largest or "blocks.0.attn.qkv.bias" in tensors else "meddinov3"
