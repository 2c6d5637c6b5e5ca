"""The paper's dense decoder: tokens of four blocks, as maps, up to pixels by transposed convolutions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = 4
"""Blocks whose tokens are joined."""
HE_SLOPE = 1e-2
"""Of the leaky ReLU that He's initialisation assumes, as in nnU-Net."""
RARE = -3.0
"""First bias of the regions' logits: a lesion fills few pixels."""
SMOOTH = 1e-5
"""In the soft Dice, as in nnU-Net."""

Loss = Callable[[Tensor, Tensor], Tensor]


class UpDecoder(nn.Module):
    """Contrasts fused channel by channel, then log2(patch) steps that double the map, then 1 x 1 to the regions.

    A step is a transposed convolution 2 x 2 of stride 2 to half the channels, LayerNorm over the channels, GELU. The
    first step takes `LEVELS` x dim channels. The fusion starts as the mean over the contrasts.

    Raises:
        ValueError: patches whose side is no power of 2 from 2 on, or channels that cannot be halved so often.
    """

    def __init__(self, dim: int, patch: int, contrasts: int, regions: int) -> None:
        super().__init__()
        wide, steps = LEVELS * dim, patch.bit_length() - 1
        if patch < 2 or 2**steps != patch or wide % 2**steps:
            raise ValueError(
                f"patches of {patch} pixels with {dim} channels cannot be doubled up to pixels; the decoder takes "
                "patches of 2, 4, 8, 16, ... pixels"
            )
        self.fusion = nn.Parameter(torch.full((contrasts, wide), 1 / contrasts))
        widths = [wide >> step for step in range(steps + 1)]
        self.steps = nn.Sequential(*(_Doubling(*pair) for pair in pairwise(widths)))
        self.last = nn.Conv2d(widths[-1], regions, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(part.weight, a=HE_SLOPE)
                assert part.bias is not None
                nn.init.zeros_(part.bias)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, RARE)

    def forward(self, maps: Float[Tensor, "slice contrast channel row column"]) -> Tensor:
        """Logits of the regions (slice, region, pixel row, pixel column)."""
        fused = (maps * self.fusion[None, :, :, None, None]).sum(1)
        logits: Tensor = self.last(self.steps(fused))
        return logits


class _Doubling(nn.Module):
    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(wide, narrow, 2, 2)
        self.norm = nn.LayerNorm(narrow)

    def forward(self, x: Float[Tensor, "slice wide row column"]) -> Float[Tensor, "slice narrow up across"]:
        normalised = self.norm(self.up(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return nn.functional.gelu(normalised)


def levels(depth: int) -> tuple[int, ...]:
    """The four blocks (0-based): the last of each quarter, so 2, 5, 8, 11 of 12; below 4 blocks some stand twice."""
    return tuple(-(-(quarter * depth) // LEVELS) - 1 for quarter in range(1, LEVELS + 1))


def feature_maps(
    model: Any, pictures: Float[Tensor, "slice channel row column"], contrasts: int
) -> Float[Tensor, "slice contrast wide up across"]:
    """Patch tokens of the four blocks through the final norm, side by side as maps; each contrast is seen alone."""
    count, channels, rows, columns = pictures.shape
    patch = model.config.patch_size
    alone = pictures.reshape(count * contrasts, channels // contrasts, rows, columns)
    joined = torch.cat([found.patch for found in model.intermediate(alone, levels(model.config.depth))], dim=-1)
    return joined.transpose(1, 2).reshape(count, contrasts, joined.shape[-1], rows // patch, columns // patch)


def dice_and_cross_entropy(head: str) -> Loss:
    """MONAI's `DiceCELoss` of each region on its own (they overlap), averaged: 1 - soft Dice of the batch, plus BCE.

    Raises:
        ValueError: MONAI is missing.
    """
    try:
        from monai.losses.dice import DiceCELoss
    except ImportError:
        raise ValueError(f"head {head!r} needs MONAI: pip install 'braindino[segmentation]'") from None
    one = DiceCELoss(sigmoid=True, batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        parts = [one(logits[:, r : r + 1], wanted[:, r : r + 1]) for r in range(logits.shape[1])]
        return torch.stack(parts).mean()

    return loss
