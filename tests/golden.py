"""Deterministic weights and inputs for which the numbers of another implementation are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer

TINY = ViTConfig(dim=32, depth=2, heads=2, patch_size=4, in_channels=3, storage_tokens=2, rope_rescale=None)


def fill(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Hashed numbers in [-0.5, 0.5) that depend on `seed` and the position only."""
    index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    h = (np.uint64(2654435761) * index + np.uint64(40503 * (seed + 1))) & mask
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (np.uint64(73244475) * h) & mask
    h ^= h >> np.uint64(16)
    return torch.from_numpy((h.astype(np.float64) / 2**32 - 0.5).astype(np.float32).reshape(shape))


@torch.no_grad()
def fill_model(model: nn.Module, offset: int, wide: bool = False) -> None:
    """Fill all parameters in the order of their names; gamma and norm weights lie around 1.

    `wide` scales matrices by 2 / sqrt(fan in), which keeps a deep model's activations alive.
    """
    for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
        matrix = wide and parameter.ndim >= 2 and not name.endswith(("_token", "_tokens"))
        factor = 2 / parameter[0].numel() ** 0.5 if matrix else 0.4
        around_one = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        parameter.copy_(factor * fill(number + offset, tuple(parameter.shape)) + float(around_one))


def filled_vit(config: ViTConfig = TINY, offset: int = 0) -> VisionTransformer:
    model = VisionTransformer(config).eval()
    fill_model(model, offset)
    return model


def close(got: Tensor, expected: list[float] | float, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got.detach(), torch.tensor(expected, dtype=got.dtype), rtol=0, atol=tolerance)
