"""A UniFormer in three dimensions: convolutions in the first two stages, attention over all tokens in the last two.

After Li et al., UniFormer (arXiv 2201.04676), in the size S that BrainMVP pretrained on single contrasts.
Names of weights as in its files.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from braindino.model.linear import Linear

DIMS = (64, 128, 320, 512)
"""Width of the four stages."""
DEPTHS = (3, 4, 8, 3)
"""Blocks of the four stages."""
HEAD_DIM = 64
SIDE = 16
"""Voxels along each axis that become one token of the last stage."""


class PatchEmbed(nn.Module):
    """Halve each side: convolution of 2 x 2 x 2 with stride 2, then LayerNorm over the channels."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(inputs, dim, 2, stride=2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "batch channel a b c"]) -> Float[Tensor, "batch dim d e f"]:
        """Half as many along each axis."""
        x = self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1)
        return x


class ConvolutionMlp(nn.Module):
    """Two 1 x 1 x 1 convolutions with GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv3d(dim, 4 * dim, 1), nn.Conv3d(4 * dim, dim, 1)

    def forward(self, x: Float[Tensor, "batch dim a b c"]) -> Float[Tensor, "batch dim a b c"]:
        """Per voxel."""
        found: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return found


class ConvolutionBlock(nn.Module):
    """Three residuals: depthwise 3^3 for positions; 1^3, depthwise 5^3, 1^3 in place of attention; the MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1, self.conv2 = nn.Conv3d(dim, dim, 1), nn.Conv3d(dim, dim, 1)
        self.attn = nn.Conv3d(dim, dim, 5, padding=2, groups=dim)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = ConvolutionMlp(dim)

    def forward(self, x: Float[Tensor, "batch dim a b c"]) -> Float[Tensor, "batch dim a b c"]:
        """Of the same shape."""
        x = x + self.pos_embed(x)
        x = x + self.conv2(self.attn(self.conv1(self.norm1(x))))
        x = x + self.mlp(self.norm2(x))
        return x


class Attention(nn.Module):
    """Attention over all tokens, with a bias on queries, keys and values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.proj = Linear(dim, 3 * dim), Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """softmax(q k' / sqrt(64)) v per head, projected."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, dim // HEAD_DIM, HEAD_DIM).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(heads.transpose(1, 2).reshape(batch, tokens, dim))
        return projected


class Mlp(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, x: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        """Per token."""
        found: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return found


class AttentionBlock(nn.Module):
    """Three residuals: depthwise 3^3 for positions, attention, the MLP; LayerNorm with epsilon 1e-6."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim), Mlp(dim)

    def forward(self, x: Float[Tensor, "batch dim a b c"]) -> Float[Tensor, "batch dim a b c"]:
        """Of the same shape."""
        x = x + self.pos_embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        x = tokens.transpose(1, 2).reshape(x.shape)
        return x


class UniFormer(nn.Module):
    """UniFormer-S: one contrast in, the places of the last stage's map out."""

    def __init__(self) -> None:
        super().__init__()
        for stage, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True), start=1):
            kind = ConvolutionBlock if stage <= 2 else AttentionBlock
            self.add_module(f"patch_embed{stage}", PatchEmbed(DIMS[stage - 2] if stage > 1 else 1, dim))
            self.add_module(f"blocks{stage}", nn.Sequential(*(kind(dim) for _ in range(depth))))
        self.norm = nn.BatchNorm3d(DIMS[-1])

    def forward(self, boxes: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch patch dim"]:
        """The last map after its BatchNorm, row-major over x, y, z / 16; inside z comes first (x, y, z -> z, x, y).

        Raises:
            ValueError: a side that is no multiple of 16.
        """
        if any(side % SIDE or not side for side in boxes.shape[2:]):
            raise ValueError(f"the sides of a box must be multiples of {SIDE}, got {tuple(boxes.shape[2:])}")
        x = boxes.permute(0, 1, 4, 2, 3)
        for stage in range(1, len(DIMS) + 1):
            x = self.get_submodule(f"blocks{stage}")(self.get_submodule(f"patch_embed{stage}")(x))
        found: Tensor = self.norm(x)
        return found.permute(0, 3, 4, 2, 1).flatten(1, 3)
