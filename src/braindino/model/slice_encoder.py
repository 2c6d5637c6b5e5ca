"""The slice-wise encoder: a volume through its recipe, slice by slice through the frozen ViT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from braindino.model.vit import VisionTransformer
from braindino.model.weights import digest
from braindino.types import Tokens, Volume
from braindino.volume.preprocess import preprocess, slice_positions_mm, to_slices
from braindino.volume.recipe import Recipe

BATCH_PIXELS = 32 * 224 * 224
"""Pixels per forward pass; bounds memory, does not change the result."""


@dataclass(frozen=True)
class SliceEncoder:
    """A frozen ViT with its recipe (the `Encoder` protocol of `types`). One view per slice and contrast.

    With `recipe.neighbours` n a view has 2 n + 1 channels: the slice between those below and above it.
    """

    name: str
    model: VisionTransformer
    recipe: Recipe
    seen: frozenset[str] | None = None
    """Digests of the subjects that it was pretrained on; None where its file does not tell."""

    def __post_init__(self) -> None:
        if self.recipe.size_px % self.model.config.patch_size:
            raise ValueError(
                f"recipe.size_px {self.recipe.size_px} is no multiple of the patch size {self.model.config.patch_size}"
            )
        channels = self.recipe.channels
        if self.model.config.in_channels != channels:
            raise ValueError(
                f"model.in_channels is {self.model.config.in_channels}, but recipe.neighbours "
                f"{self.recipe.neighbours} gives {channels}"
            )
        self.model.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.model.config.dim

    def digest(self) -> str:
        """SHA-256 over all weights."""
        return digest(self.model)

    @torch.inference_mode()
    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """CLS (and with `patches` storage and patch) tokens of every slice of every contrast."""
        prepared = preprocess(volume, self.recipe, every_slice=every_slice)
        pictures = to_slices(prepared.voxels)
        channels, (rows, columns) = self.model.config.in_channels, pictures.shape[2:]
        views = pictures.reshape(len(pictures), -1, channels, rows, columns).transpose(1, 0, 2, 3, 4)
        slices = views.reshape(-1, channels, rows, columns)
        device = next(self.model.parameters()).device
        size = max(1, BATCH_PIXELS // self.recipe.size_px**2)
        cls, storage, patch = [], [], []
        for start in range(0, len(slices), size):
            output = self.model(torch.from_numpy(slices[start : start + size]).to(device))
            cls.append(output.cls.cpu().numpy())
            if patches:
                storage.append(output.storage.cpu().numpy())
                patch.append(output.patch.cpu().numpy())
        side = self.recipe.size_px // self.model.config.patch_size
        return Tokens(
            cls=np.concatenate(cls),
            patch=np.concatenate(patch) if patches else None,
            storage=np.concatenate(storage) if patches else None,
            grid=(side, side),
            position_mm=np.tile(slice_positions_mm(prepared), len(volume.contrasts)),
            contrasts=tuple(c for c in volume.contrasts for _ in range(prepared.voxels.shape[3])),
            prepared=prepared,
        )
