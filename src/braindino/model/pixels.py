"""What a model of others expects of its pixels, as a part of its first layer: so it cannot be forgotten or differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from braindino.model.foreign import KERNEL

BIAS = "patch_embed.proj.bias"


def for_grey(
    state: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float], window: tuple[float, float]
) -> dict[str, Tensor]:
    """Weights for grey x that give what `state` gives for channels y_c = ((x - low) / (high - low) - mean_c) / std_c.

    The map is affine, and so is the patch embedding k * y + b. Hence, with s_c = 1 / (std_c (high - low)), the kernel
    of x is the sum over c of k_c s_c, and its bias b - the sum over c and the pixels of k_c (low s_c + mean_c / std_c).
    Nothing is clipped: a pixel beyond the window lies below 0 or above 1.

    Args:
        state: weights of a `VisionTransformer`.
        mean: of each channel, in [0, 1].
        std: of each channel, above 0.
        window: the values (low, high) of x that are 0 and 1, black and white.

    Raises:
        ValueError: another number of channels than of means and deviations.
    """
    kernel, bias = state[KERNEL].double(), state[BIAS].double()
    if not kernel.shape[1] == len(mean) == len(std):
        raise ValueError(f"weights of {kernel.shape[1]} image channels, but statistics of {len(mean)}")
    (low, high), means, stds = window, torch.tensor(mean).double(), torch.tensor(std).double()
    scale = 1 / (stds * (high - low))
    shift = low * scale + means / stds
    grey = torch.einsum("dcij,c->dij", kernel, scale)[:, None]
    offset = torch.einsum("dcij,c->d", kernel, shift)
    return dict(state) | {KERNEL: grey.float(), BIAS: (bias - offset).float()}
