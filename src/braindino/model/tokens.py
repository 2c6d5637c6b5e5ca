"""From pixels to tokens, and where they are: patch embedding and rotary position embedding (RoPE)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from braindino.model.config import ViTConfig

Rope = tuple[Float[Tensor, "token channel"], Float[Tensor, "token channel"]]
"""Sine and cosine of the rotation angle of every token and channel of a head; the rotation is done in their type."""


class PatchEmbed(nn.Module):
    """A linear map of each p x p patch to D channels (convolution of kernel and stride p)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)

    def reset(self, generator: torch.Generator | None) -> None:
        """Draw weight and bias from U(-k, k) with k = 1 / sqrt(channels p^2)."""
        bound = 1 / math.sqrt(self.proj.weight[0].numel())
        for parameter in self.proj.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch row column dim"]:
        """Patch tokens on their grid (height / p, width / p).

        Raises:
            ValueError: wrong number of channels, or an edge that is no multiple of the patch size.
        """
        channels, patch = self.proj.in_channels, self.proj.kernel_size[0]
        _, got, height, width = images.shape
        if got != channels or height % patch or width % patch or not height * width:
            raise ValueError(
                f"images must be (batch, {channels}, multiple of {patch}, multiple of {patch}), "
                f"got {tuple(images.shape)}; resize or pad them"
            )
        embedded: Tensor = self.proj(images)
        return embedded.permute(0, 2, 3, 1)


class RopeEmbed(nn.Module):
    """Rotation angles of an axial RoPE without learned parts.

    Periods T_i = base^(i / n), i = 0 .. n - 1 with n = d/4, or least (greatest / least)^(i / (n - 1)) where both ends
    are given. A patch at row r and column c of a grid (H, W) has coordinates 2 (r + 1/2) / H - 1 and
    2 (c + 1/2) / W - 1, and angles 2 pi coordinate / T_i. All of it is computed in `rope_dtype`.
    """

    periods: Float32[Tensor, " period"]

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.base, self.ends, self.normalize = config.rope_base, config.rope_periods, config.rope_normalize
        self.dtype = torch.bfloat16 if config.rope_dtype == "bfloat16" else torch.float32
        self.shift, self.jitter, self.rescale = config.rope_shift, config.rope_jitter, config.rope_rescale
        self.prefix = config.prefix
        self.register_buffer("periods", torch.empty(config.head_dim // 4))

    def reset(self, generator: torch.Generator | None) -> None:
        """Set the periods; nothing is drawn."""
        count = len(self.periods)
        if self.ends is None:
            exponents = torch.arange(count, device=self.periods.device) / count
            self.periods.copy_(self.base**exponents)
        else:
            least, greatest = self.ends
            exponents = torch.linspace(0, 1, count, device=self.periods.device)
            self.periods.copy_(least * (greatest / least) ** exponents)

    @property
    def augments(self) -> bool:
        """True where each call draws new coordinates, so that a table must not be shared between blocks."""
        return self.training and any(value is not None for value in (self.shift, self.jitter, self.rescale))

    def forward(self, grid: tuple[int, int]) -> Rope:
        """Sine and cosine for the prefix tokens (angle 0: not rotated) and the patches of `grid`."""
        coordinates = patch_coordinates(grid, self.normalize, self.periods.device, self.dtype)
        if self.augments:
            coordinates = self._augment(coordinates)
        angles = rope_angles(coordinates, self.periods.to(self.dtype))
        angles = torch.cat((angles.new_zeros(self.prefix, angles.shape[1]), angles))
        return angles.sin(), angles.cos()

    def _augment(self, coordinates: Float[Tensor, "patch axis"]) -> Float[Tensor, "patch axis"]:
        def draw(bound: float, count: int) -> Tensor:
            return torch.empty(count, device=coordinates.device, dtype=coordinates.dtype).uniform_(-bound, bound)

        if self.shift is not None:
            coordinates = coordinates + draw(self.shift, 2)
        if self.jitter is not None:
            coordinates = coordinates * draw(math.log(self.jitter), 2).exp()
        if self.rescale is not None:
            coordinates = coordinates * draw(math.log(self.rescale), 1).exp()
        return coordinates


def patch_coordinates(
    grid: tuple[int, int],
    normalize: Literal["separate", "max", "min"],
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "patch 2"]:
    """Row and column coordinates of the patch centres, row-major; in (-1, 1) for `separate`."""
    sides = grid if normalize == "separate" else (max(grid),) * 2 if normalize == "max" else (min(grid),) * 2
    axes = [(torch.arange(n, device=device, dtype=dtype) + 0.5) / side for n, side in zip(grid, sides, strict=True)]
    return 2 * torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1) - 1


def rope_angles(
    coordinates: Float[Tensor, "patch 2"], periods: Float[Tensor, " period"]
) -> Float[Tensor, "patch channel"]:
    """Angles 2 pi coordinate / period as [row, column, row, column], each `period` wide: channels = 4 periods."""
    angles = 2 * math.pi * coordinates[:, :, None] / periods
    return angles.flatten(1).tile(2)


def rotate(x: Float[Tensor, "*batch token channel"], rope: Rope) -> Float[Tensor, "*batch token channel"]:
    """Rotate channel pairs (c, c + d/2): x cos + (-x_2, x_1) sin, in the type of `rope`, returned in that of `x`.

    Both channels of a pair have the same angle, as `rope_angles` makes them.
    """
    sine, cosine = rope
    if sine.dtype == torch.float32:
        rotated: Tensor = _Rotation.apply(x.float(), sine, cosine)  # type: ignore[no-untyped-call]
        return rotated.to(x.dtype)
    wide = x.to(sine.dtype)
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (wide * cosine + turned * sine).to(x.dtype)  # each product is rounded, as where this was trained


class _Rotation(torch.autograd.Function):
    """The rotation in float32 without a copy of the turned half; its gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
        ctx.save_for_backward(sine, cosine)
        return _turn(x, sine, cosine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        sine, cosine = ctx.saved_tensors
        return _turn(gradients[0], -sine, cosine), None, None


def _turn(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cosine
    turned[..., :half].addcmul_(x[..., half:], sine[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sine[..., half:])
    return turned
