"""How slices become the pictures that a model of others was trained on: its statistics stand with the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """y_c = (w(x) - mean_c) / std_c for each channel c of the model, where x is the one channel of a slice.

    w(x) = clip((x - low) / (high - low), 0, 1) with the `window` (low, high), or x without one.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Per channel of the model, after the window."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Per channel of the model, after the window."""
    window: tuple[float, float] | None = None
    """Values of a slice (in standard deviations of the brain) that become 0 and 1, black and white."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(f"pixels need a mean and a std above 0 per channel, got {self.mean} and {self.std}")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"pixels.window must rise, got {self.window}")

    def __call__(self, slices: Float[Tensor, "view 1 row column"]) -> Float[Tensor, "view channel row column"]:
        """The pictures of some slices."""
        if self.window is not None:
            low, high = self.window
            slices = ((slices - low) / (high - low)).clamp(0, 1)
        mean, std = (torch.tensor(values, device=slices.device)[:, None, None] for values in (self.mean, self.std))
        return (slices - mean) / std
