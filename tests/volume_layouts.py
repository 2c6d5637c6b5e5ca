"""Random weights in the layouts of published 3-D encoders, written by hand from their tables of keys and shapes."""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def _transformer(dim: int, depth: int, hidden: int, *, bias: bool) -> Shapes:
    shapes: Shapes = {}
    for i in range(depth):
        block = {
            "mlp.linear1.weight": (hidden, dim),
            "mlp.linear1.bias": (hidden,),
            "mlp.linear2.weight": (dim, hidden),
            "mlp.linear2.bias": (dim,),
            "norm1.weight": (dim,),
            "norm1.bias": (dim,),
            "norm2.weight": (dim,),
            "norm2.bias": (dim,),
            "attn.qkv.weight": (3 * dim, dim),
            "attn.out_proj.weight": (dim, dim),
            "attn.out_proj.bias": (dim,),
        }
        if bias:
            block["attn.qkv.bias"] = (3 * dim,)
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes | {"norm.weight": (dim,), "norm.bias": (dim,)}


def brainiac_v2() -> Shapes:
    """MONAI's ViT of 96^3 voxels without a class token."""
    return {
        "patch_embedding.position_embeddings": (1, 216, 768),
        "patch_embedding.patch_embeddings.weight": (768, 1, 16, 16, 16),
        "patch_embedding.patch_embeddings.bias": (768,),
        **_transformer(768, 12, 3072, bias=False),
    }


def bm_mae(contrasts=("t1", "t1ce", "t2", "flair")) -> Shapes:
    """A tokenizer per contrast before one transformer."""
    shapes: Shapes = {"cls_token": (1, 1, 768)}
    for contrast in contrasts:
        name = f"tokenizers.{contrast}.patch_embedding"
        shapes[f"{name}.position_embeddings"] = (1, 512, 768)
        shapes[f"{name}.patch_embeddings.weight"] = (768, 1, 16, 16, 16)
        shapes[f"{name}.patch_embeddings.bias"] = (768,)
    return shapes | _transformer(768, 12, 1536, bias=True)


def _norm(name: str, width: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def brainiac_v1() -> Shapes:
    """A 3-D ResNet-50 whose shortcuts are convolutions with a bias."""
    shapes: Shapes = {"conv1.weight": (64, 1, 7, 7, 7), **_norm("bn1", 64)}
    before = 64
    for stage, (blocks, inner, after) in enumerate(
        [(3, 64, 256), (4, 128, 512), (6, 256, 1024), (3, 512, 2048)], start=1
    ):
        for i in range(blocks):
            name = f"layer{stage}.{i}"
            shapes[f"{name}.conv1.weight"] = (inner, before, 1, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3, 3)
            shapes[f"{name}.conv3.weight"] = (after, inner, 1, 1, 1)
            for norm, width in (("bn1", inner), ("bn2", inner), ("bn3", after)):
                shapes |= _norm(f"{name}.{norm}", width)
            if i == 0:
                shapes[f"{name}.downsample.0.weight"] = (after, before, 1, 1, 1)
                shapes[f"{name}.downsample.0.bias"] = (after,)
                shapes |= _norm(f"{name}.downsample.1", after)
            before = after
    return shapes


def weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random numbers: matrices of 1 / sqrt(fan in), so that a deep network keeps its scale; norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            made[name] = 0.5 + drawn.abs()
        elif len(shape) >= 2 and not name.endswith(("cls_token", "position_embeddings")):
            made[name] = drawn / drawn[0].numel() ** 0.5
        else:
            norm = name.endswith("weight")
            made[name] = 0.2 * drawn + float(norm)
    return made
