"""The 3-D encoder of one contrast at a time: each contrast's box through a frozen network, one view each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from braindino.model.key_report import Report
from braindino.model.weights import digest
from braindino.types import Tokens, Volume
from braindino.volume.box import BoxRecipe, to_box

Pool = Literal["first", "mean"]


@dataclass(frozen=True)
class VolumeEncoder:
    """A frozen network of boxes with its recipe (the `Encoder` protocol of `types`). One view per contrast."""

    name: str
    model: nn.Module
    """(view, 1, x, y, z) to patch tokens (view, patch, dim), row-major over `grid`."""
    dim: int
    recipe: BoxRecipe
    patch: int
    """Voxels of the box along each side of a patch."""
    pool: Pool
    """What a view is summed up by: its first token, or the mean of all."""
    report: Report
    """How the weights were read."""
    licence: str
    """Terms of the weights."""
    domain: str
    """What the weights were trained on, to stand beside results."""
    variant: str = ""
    """That of the plug-in; "" where these weights have but one."""

    def digest(self) -> str:
        """SHA-256 over all weights."""
        return digest(self.model)

    @torch.inference_mode()
    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """One vector (and with `patches` the patch tokens) per contrast; the box is always seen whole."""
        box = to_box(volume, self.recipe)
        sides = box.voxels.shape[1:]
        device = next(self.model.parameters()).device
        images = torch.from_numpy(box.voxels)[:, None, None].to(device)
        outputs = [self.model(image)[0].cpu().numpy() for image in images]
        pooled = [tokens[0] if self.pool == "first" else tokens.mean(axis=0) for tokens in outputs]
        return Tokens(
            cls=np.stack(pooled),
            patch=np.stack(outputs) if patches else None,
            storage=None,
            grid=tuple(side // self.patch for side in sides),
            position_mm=np.zeros(len(pooled), np.float32),
            contrasts=volume.contrasts,
            prepared=box,
        )
