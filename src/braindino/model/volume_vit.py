"""Vision transformers of boxes, by the names of MONAI's `ViT` that the published 3-D encoders are written in.

Our own code: MONAI's blocks own parameters of a cross-attention that is never used from version 1.4 on, so that files
written with 1.3 no longer load there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from braindino.model.linear import Linear


class PatchEmbedding(nn.Module):
    """Patches of one channel, each projected by one convolution, plus a stored position: row-major over the grid."""

    def __init__(self, dim: int, patch: int, count: int) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv3d(1, dim, patch, stride=patch)
        self.position_embeddings = nn.Parameter(torch.empty(1, count, dim))

    def forward(self, x: Float[Tensor, "view 1 x y z"]) -> Float[Tensor, "view patch dim"]:
        """Tokens of all patches."""
        tokens: Tensor = self.patch_embeddings(x).flatten(2).transpose(1, 2) + self.position_embeddings
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention softmax(q k^T / sqrt(d)) v; rows of `qkv` are q, k, v, each by heads."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: Float[Tensor, "view token dim"]) -> Float[Tensor, "view token dim"]:
        """Attend over all tokens of each view."""
        views, tokens, dim = x.shape
        parts = self.qkv(x).view(views, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts.unbind(0))
        out: Tensor = self.out_proj(attended.transpose(1, 2).reshape(views, tokens, dim))
        return out


class FeedForward(nn.Module):
    """linear2(GELU(linear1(x))), exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(dim, hidden)
        self.linear2 = Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "view token dim"]) -> Float[Tensor, "view token dim"]:
        """Apply to each token alone."""
        out: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return out


class Block(nn.Module):
    """x + Attention(LN1 x), then x + FeedForward(LN2 x); LayerNorm epsilon 1e-5."""

    def __init__(self, dim: int, heads: int, hidden: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden)

    def forward(self, x: Float[Tensor, "view token dim"]) -> Float[Tensor, "view token dim"]:
        """One step of refinement of all tokens."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VolumeViT(nn.Module):
    """BrainIAC v2: patches of one contrast, learned positions, no class token, no bias on queries, keys and values."""

    def __init__(
        self, size: int = 96, *, patch: int = 16, dim: int = 768, depth: int = 12, heads: int = 12, hidden: int = 3072
    ) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbedding(dim, patch, (size // patch) ** 3)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, qkv_bias=False) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "view 1 x y z"]) -> Float[Tensor, "view patch dim"]:
        """Patch tokens after the last norm."""
        tokens = self.patch_embedding(x)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out


class Tokenizer(nn.Module):
    """The patch embedding of one contrast, one level deeper in the names of BM-MAE."""

    def __init__(self, dim: int, patch: int, count: int) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbedding(dim, patch, count)

    def forward(self, x: Float[Tensor, "view 1 x y z"]) -> Float[Tensor, "view patch dim"]:
        """Tokens of all patches of one contrast."""
        tokens: Tensor = self.patch_embedding(x)
        return tokens


class JointViT(nn.Module):
    """BM-MAE: a class token, then the patches of every contrast that is there, each by its own tokenizer."""

    def __init__(
        self,
        tokenizers: Sequence[str],
        size: int = 128,
        *,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 1536,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.tokenizers = nn.ModuleDict({name: Tokenizer(dim, patch, (size // patch) ** 3) for name in tokenizers})
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, qkv_bias=True) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Float[Tensor, "view contrast x y z"], tokenizers: Sequence[str]
    ) -> tuple[Float[Tensor, "view dim"], Float[Tensor, "view contrast patch dim"]]:
        """CLS and patch tokens after the last norm; `tokenizers` names the one of each contrast of `x`, in order."""
        parts = [self.tokenizers[name](x[:, n : n + 1]) for n, name in enumerate(tokenizers)]
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), *parts], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens[:, 0], tokens[:, 1:].unflatten(1, (len(tokenizers), -1))
