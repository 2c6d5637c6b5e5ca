"""Random weights in the layouts of others, written by hand from their published tables of keys and shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from golden import fill

HEAD_DIM = 16


def official(
    dim: int = 32, depth: int = 2, hidden: int = 128, *, gated=False, bias=True, local_norm=False, patch: int = 4
) -> dict[str, Tensor]:
    """The flat state dict of facebookresearch/dinov3, without mask token values of 0 or LayerScale near 0."""
    shapes = {
        "cls_token": (1, 1, dim),
        "storage_tokens": (1, 4, dim),
        "mask_token": (1, dim),
        "patch_embed.proj.weight": (dim, 3, patch, patch),
        "patch_embed.proj.bias": (dim,),
    }
    for i in range(depth):
        block = {"norm1.weight": (dim,), "norm1.bias": (dim,), "attn.qkv.weight": (3 * dim, dim)}
        block |= {"attn.qkv.bias": (3 * dim,)} if bias else {}
        block |= {"attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,), "ls1.gamma": (dim,)}
        block |= {"norm2.weight": (dim,), "norm2.bias": (dim,)}
        if gated:
            for name, (rows, columns) in {"w1": (hidden, dim), "w2": (hidden, dim), "w3": (dim, hidden)}.items():
                block |= {f"mlp.{name}.weight": (rows, columns), f"mlp.{name}.bias": (rows,)}
        else:
            block |= {"mlp.fc1.weight": (hidden, dim), "mlp.fc1.bias": (hidden,)}
            block |= {"mlp.fc2.weight": (dim, hidden), "mlp.fc2.bias": (dim,)}
        block |= {"ls2.gamma": (dim,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    shapes |= {"local_cls_norm.weight": (dim,), "local_cls_norm.bias": (dim,)} if local_norm else {}
    state = {name: 0.6 * fill(k, shape) for k, (name, shape) in enumerate(shapes.items())}
    count = HEAD_DIM // 4
    state["rope_embed.periods"] = (100 ** (torch.arange(count) / count)).bfloat16().float()
    if bias:
        mask = torch.cat((torch.ones(dim), torch.zeros(dim), torch.ones(dim)))
        state |= {f"blocks.{i}.attn.qkv.bias_mask": mask.clone() for i in range(depth)}
    return state


_OF_TRANSFORMERS = {
    "storage_tokens": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings",
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "blocks.": "layer.",
    "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.up_proj",
    "mlp.w3": "mlp.down_proj",
}
_OF_TIMM = {
    "storage_tokens": "reg_token",
    "ls1.gamma": "gamma_1",
    "ls2.gamma": "gamma_2",
    "mlp.w1": "mlp.fc1_g",
    "mlp.w2": "mlp.fc1_x",
    "mlp.w3": "mlp.fc2",
}


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers writes it: split projections, no key bias, no buffers, mask token (1, 1, D)."""
    made = {}
    for name, tensor in state.items():
        if name.endswith(("bias_mask", "periods")) or name.startswith("local_cls_norm"):
            continue
        new = _renamed(name, _OF_TRANSFORMERS)
        if ".attn.qkv." in new:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                if (part, new.rpartition(".")[2]) != ("k", "bias"):
                    made[new.replace("attn.qkv", f"attention.{part}_proj")] = piece.clone()
        else:
            made[new] = tensor[None] if name == "mask_token" else tensor
    return made


def timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As timm writes it: fused projection, biases of queries and values apart, no mask token, no buffers."""
    made = {}
    for name, tensor in state.items():
        if name.endswith(("bias_mask", "periods", "mask_token")) or name.startswith("local_cls_norm"):
            continue
        if name.endswith("attn.qkv.bias"):
            made[name.replace("qkv.bias", "q_bias")], _, made[name.replace("qkv.bias", "v_bias")] = tensor.chunk(3)
        else:
            made[_renamed(name, _OF_TIMM)] = tensor
    return {name: tensor.clone() for name, tensor in made.items()}
