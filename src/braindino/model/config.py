"""What a vision transformer is made of, as plain data (no torch), and the named sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from braindino.catalog import suggest

Ffn = Literal["mlp", "swiglu", "swiglu32", "swiglu64", "swiglu128"]
_MULTIPLE: dict[str, int] = {"swiglu": 8, "swiglu32": 32, "swiglu64": 64, "swiglu128": 128}


@dataclass(frozen=True)
class ViTConfig:
    """A pre-norm vision transformer with rotary positions, as in DINOv3 (arXiv 2508.10104, section 3.2).

    Raises:
        ValueError: the sizes do not fit each other; the message names the field.
    """

    dim: int = 384
    """Width D of every token."""
    depth: int = 12
    """Number of blocks L."""
    heads: int = 6
    """Attention heads h; D must be a multiple of 4 h (two axes, sine and cosine)."""
    patch_size: int = 16
    """Edge of a patch in pixels; image edges must be multiples of it."""
    in_channels: int = 1
    """Image channels: 2 n + 1 for a corpus with n `recipe.neighbours`, so 1 without (released DINOv3 weights: 3)."""
    mlp_ratio: float = 4.0
    """Hidden width over D, before the 2/3 rule of SwiGLU."""
    ffn: Ffn = "mlp"
    """Feed-forward: `mlp` (GELU), or SwiGLU with hidden width rounded up to a multiple of 8, 32, 64 or 128."""
    storage_tokens: int = 4
    """Extra tokens without a patch (registers, arXiv 2309.16588)."""
    qkv_bias: bool = True
    """Bias on queries, keys and values (the 7B model has none)."""
    mask_k_bias: bool = True
    """Hold the key third of that bias at zero. With RoPE it is not a no-op."""
    layer_scale: float | None = 1e-5
    """Initial LayerScale gamma (arXiv 2103.17239); None removes LayerScale."""
    norm_eps: float = 1e-5
    """Epsilon of every LayerNorm."""
    drop_path: float = 0.0
    """Share of samples whose residual is skipped in training, the same in every block; in [0, 1)."""
    rope_base: float = 100.0
    """Base of the geometric series of RoPE periods."""
    rope_periods: tuple[float, float] | None = None
    """Least and greatest RoPE period, both included in a geometric series; None: the periods of `rope_base`."""
    rope_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which positions, angles and the rotation are computed: float32, or bfloat16 as the released models
    were trained."""
    rope_normalize: Literal["separate", "max", "min"] = "separate"
    """Patch coordinates are divided by their own axis, by the longer, or by the shorter side of the grid."""
    rope_shift: float | None = None
    """Training only: add U(-s, s) to the coordinates, each axis on its own; s > 0."""
    rope_jitter: float | None = None
    """Training only: multiply the coordinates by exp U(-ln j, ln j), each axis on its own; j > 1."""
    rope_rescale: float | None = 2.0
    """Training only: multiply both axes by one exp U(-ln r, ln r), drawn per block and crop size; r > 1."""
    untie_cls_and_patch_norms: bool = False
    """Give CLS and storage tokens a final norm of their own."""
    untie_global_and_local_cls_norm: bool = False
    """Give CLS and storage tokens of local crops a final norm of their own, in training."""

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "patch_size", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dim % (4 * self.heads):
            raise ValueError(f"dim must be a multiple of 4 x heads = {4 * self.heads} for RoPE, got {self.dim}")
        if self.storage_tokens < 0:
            raise ValueError(f"storage_tokens must be 0 or more, got {self.storage_tokens}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), got {self.drop_path}")
        limits = {"mlp_ratio": 0, "layer_scale": 0, "norm_eps": 0, "rope_base": 1, "rope_shift": 0}
        for name, low in (limits | {"rope_jitter": 1, "rope_rescale": 1}).items():
            value = getattr(self, name)
            if value is not None and not value > low:
                raise ValueError(f"{name} must be greater than {low}, got {value}")
        if self.rope_periods is not None and not 0 < self.rope_periods[0] < self.rope_periods[1]:
            raise ValueError(f"rope_periods must be two rising numbers above 0, got {self.rope_periods}")

    @property
    def head_dim(self) -> int:
        """Channels d = D / h of one attention head."""
        return self.dim // self.heads

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward: int(D ratio), or 2/3 of it rounded up to a multiple for SwiGLU."""
        width = int(self.dim * self.mlp_ratio)
        if self.ffn == "mlp":
            return width
        multiple = _MULTIPLE[self.ffn]
        return -(-(width * 2 // 3) // multiple) * multiple

    @property
    def prefix(self) -> int:
        """Tokens before the patches: one CLS and the storage tokens."""
        return 1 + self.storage_tokens


PRESETS: dict[str, ViTConfig] = {
    "tiny": ViTConfig(dim=192, depth=12, heads=3),
    "small": ViTConfig(dim=384, depth=12, heads=6),
    "small_plus": ViTConfig(dim=384, depth=12, heads=6, ffn="swiglu", mlp_ratio=6.0),
    "base": ViTConfig(dim=768, depth=12, heads=12),
    "large": ViTConfig(dim=1024, depth=24, heads=16),
    "large_plus": ViTConfig(dim=1024, depth=24, heads=16, ffn="swiglu", mlp_ratio=6.0),
    "huge_plus": ViTConfig(dim=1280, depth=32, heads=20, ffn="swiglu", mlp_ratio=6.0),
    "7b": ViTConfig(
        dim=4096,
        depth=40,
        heads=32,
        ffn="swiglu64",
        mlp_ratio=3.0,
        qkv_bias=False,
        untie_global_and_local_cls_norm=True,
    ),
}
"""The sizes of the DINOv3 family (all with patches of 16), and `tiny` below them."""


def preset(name: str, **changes: Any) -> ViTConfig:
    """The named size with some fields changed, e.g. `preset("base", drop_path=0.3)`.

    Raises:
        ValueError: no such size; the message names the nearest ones.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown model size {name!r}{suggest(name, list(PRESETS))}")
    return replace(PRESETS[name], **changes)
