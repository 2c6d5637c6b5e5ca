"""The parts of a transformer block: attention, feed-forward, LayerScale, drop path, and initialisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from braindino.model.config import ViTConfig
from braindino.model.linear import Linear, linear
from braindino.model.tokens import Rope, rotate


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Set every parameter and buffer; each is poisoned with NaN first, so that a forgotten one shows.

    Linear layers: weight N(0, 0.02), cut at +-2, bias 0. LayerNorm: 1 and 0. A part with something else to
    set has a method `reset(generator)`.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.fill_(float("nan"))
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        reset = getattr(part, "reset", None)
        if callable(reset):
            reset(generator)


def key_mask(dim: int) -> Float[Tensor, " out"]:
    """1 for the rows of queries, 0 for those of keys, 1 for those of values, `dim` of each."""
    return torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(dim)


def attend(
    queries: Float[Tensor, "batch head query channel"],
    keys: Float[Tensor, "batch head token channel"],
    values: Float[Tensor, "batch head token channel"],
) -> Float[Tensor, "batch head query channel"]:
    """softmax(q k^T / sqrt(d)) v.

    In inference mode on a CPU, bfloat16 is computed as two products image by image: instructions for bfloat16 serve
    them, but not torch's fused attention.
    """
    if torch.is_inference_mode_enabled() and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        scaled = queries * queries.shape[-1] ** -0.5
        images = zip(scaled, keys.transpose(-1, -2), values, strict=True)
        return torch.stack([(query @ key).softmax(dim=-1) @ value for query, key, value in images])
    return F.scaled_dot_product_attention(queries, keys, values)


class QkvLinear(nn.Linear):
    """Queries, keys and values in one projection, the key third of the bias multiplied by zero."""

    bias_mask: Float[Tensor, " out"]

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim)
        self.register_buffer("bias_mask", torch.empty(3 * dim))

    def reset(self, generator: torch.Generator | None) -> None:
        """Set the mask to 1 for queries, 0 for keys, 1 for values; nothing is drawn."""
        self.bias_mask.copy_(key_mask(self.in_features))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch out"]:
        """x W^T + bias * mask."""
        return linear(x, self.weight, self.bias * self.bias_mask)


class Attention(nn.Module):
    """Multi-head self-attention softmax(q k^T / sqrt(d)) v, with q and k rotated by RoPE."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        masked = config.qkv_bias and config.mask_k_bias
        self.qkv = QkvLinear(config.dim) if masked else Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = Linear(config.dim, config.dim)

    def forward(self, x: Float[Tensor, "batch token dim"], rope: Rope) -> Float[Tensor, "batch token dim"]:
        """Attend over all tokens of each image."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        attended = attend(rotate(queries, rope), rotate(keys, rope), values)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return projected

    def first(self, x: Float[Tensor, "batch token dim"], rope: Rope) -> Float[Tensor, "batch 1 dim"]:
        """What `forward` gives for the first token, which is not rotated: one query, all keys and values."""
        batch, tokens, dim = x.shape
        bias = self.qkv.bias * self.qkv.bias_mask if isinstance(self.qkv, QkvLinear) else self.qkv.bias
        below, above = (None, None) if bias is None else (bias[:dim], bias[dim:])
        queries = linear(x[:, :1], self.qkv.weight[:dim], below).view(batch, 1, self.heads, -1).transpose(1, 2)
        both = linear(x, self.qkv.weight[dim:], above).view(batch, tokens, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        keys, values = both.unbind(0)
        attended = attend(queries, rotate(keys, rope), values)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, 1, dim))
        return projected


class Mlp(nn.Module):
    """Feed-forward fc2(GELU(fc1(x))), exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Apply to each token alone."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwiGlu(nn.Module):
    """Feed-forward w3(SiLU(w1 x) * w2 x) (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, hidden)
        self.w2 = Linear(dim, hidden)
        self.w3 = Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Apply to each token alone."""
        out: Tensor = self.w3(F.silu(self.w1(x)) * self.w2(x))
        return out


class LayerScale(nn.Module):
    """A learned factor gamma per channel (arXiv 2103.17239)."""

    def __init__(self, dim: int, value: float) -> None:
        super().__init__()
        self.value = value
        self.gamma = nn.Parameter(torch.empty(dim))

    def reset(self, generator: torch.Generator | None) -> None:
        """Set gamma to its initial value; nothing is drawn."""
        nn.init.constant_(self.gamma, self.value)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """x * gamma."""
        return x * self.gamma


class Block(nn.Module):
    """x + g1 Attention(LN1 x), then x + g2 FeedForward(LN2 x), with drop path on both."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim, scale = config.dim, config.layer_scale
        self.drop_path = config.drop_path
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(config)
        self.ls1 = nn.Identity() if scale is None else LayerScale(dim, scale)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = (Mlp if config.ffn == "mlp" else SwiGlu)(dim, config.hidden)
        self.ls2 = nn.Identity() if scale is None else LayerScale(dim, scale)

    def forward(self, x: Float[Tensor, "batch token dim"], rope: Rope) -> Float[Tensor, "batch token dim"]:
        """One step of refinement of all tokens."""
        rate = self.drop_path if self.training else 0.0
        x = add_residual(x, lambda part: self.ls1(self.attn(self.norm1(part), rope)), rate)
        return add_residual(x, lambda part: self.ls2(self.mlp(self.norm2(part))), rate)

    def first(self, x: Float[Tensor, "batch token dim"], rope: Rope) -> Float[Tensor, "batch 1 dim"]:
        """What `forward` gives for the first token, in evaluation mode: for a single query most of it is not needed."""
        token: Tensor = x[:, :1] + self.ls1(self.attn.first(self.norm1(x), rope))
        token = token + self.ls2(self.mlp(self.norm2(token)))
        return token


def add_residual(
    x: Float[Tensor, "batch token dim"], branch: Callable[[Tensor], Tensor], drop_path: float
) -> Float[Tensor, "batch token dim"]:
    """x + branch(x), computed for a random share of the samples only where `drop_path` > 0.

    keep = max(int(batch (1 - rate)), 1) samples get their residual times batch / keep, the others get none:
    the expectation is kept and the skipped samples cost nothing.
    """
    if drop_path == 0:
        return x + branch(x)
    batch = len(x)
    keep = max(int(batch * (1 - drop_path)), 1)
    chosen = torch.randperm(batch, device=x.device)[:keep]
    return x.index_add(0, chosen, branch(x[chosen]).to(x.dtype), alpha=batch / keep)
