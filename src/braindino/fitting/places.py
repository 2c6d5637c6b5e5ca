"""Where a view lies: a vector of its position in millimetres and of its contrast, for heads that see every view."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

WAVES = 16
"""Wavelengths of the position encoding, in geometric steps."""
SHORTEST_MM, LONGEST_MM = 8.0, 512.0


class Places(nn.Module):
    """Position and contrast of each view as a vector of `width`.

    A position counts from the middle between a subject's lowest and highest view, since the origin of a scanner is
    arbitrary; it is encoded as sine and cosine at `WAVES` wavelengths from 8 to 512 mm, then mapped linearly.
    """

    def __init__(self, width: int, contrast: Integer[np.ndarray, " view"]) -> None:
        super().__init__()
        self.contrast = nn.Buffer(torch.from_numpy(np.array(contrast, np.int64)))
        self.position = nn.Linear(2 * WAVES, width)
        self.names = nn.Embedding(int(contrast.max()) + 1, width)

    def forward(self, position_mm: Float[Tensor, "subject view"]) -> Float[Tensor, "subject view width"]:
        """One vector per view."""
        place: Tensor = self.position(encoded(position_mm)) + self.names(self.contrast)
        return place


def encoded(position_mm: Float[Tensor, "subject view"]) -> Float[Tensor, "subject view wave"]:
    """Sines and cosines of 2 pi (z - middle) / wavelength."""
    middle = (position_mm.amax(1, keepdim=True) + position_mm.amin(1, keepdim=True)) / 2
    steps = torch.arange(WAVES, dtype=position_mm.dtype) / (WAVES - 1)
    waves = SHORTEST_MM * (LONGEST_MM / SHORTEST_MM) ** steps
    phase = 2 * math.pi * (position_mm - middle)[..., None] / waves
    return torch.cat([phase.sin(), phase.cos()], -1)
