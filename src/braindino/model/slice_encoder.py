"""The slice-wise encoder: a volume through its recipe, slice by slice through the frozen ViT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from braindino.config import to_dict
from braindino.model.pixels import Pixels
from braindino.model.vit import VisionTransformer
from braindino.model.weights import digest
from braindino.record import digest as digest_of
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
    pixels: Pixels | None = None
    """Of a model of others: how a slice becomes its picture. None: the slice is the picture."""
    licence: str = ""
    """Terms of the weights of others."""
    domain: str = ""
    """What the weights of others were trained on, to stand beside results."""

    def __post_init__(self) -> None:
        if self.recipe.size_px % self.model.config.patch_size:
            raise ValueError(
                f"recipe.size_px {self.recipe.size_px} is no multiple of the patch size {self.model.config.patch_size}"
            )
        channels = self.recipe.channels if self.pixels is None else len(self.pixels.mean)
        if self.model.config.in_channels != channels or (self.pixels is not None and self.recipe.neighbours):
            raise ValueError(
                f"model.in_channels is {self.model.config.in_channels}, but recipe.neighbours "
                f"{self.recipe.neighbours} gives {channels}" + ("" if self.pixels is None else ", repeated")
            )
        self.model.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.model.config.dim

    def digest(self) -> str:
        """SHA-256 over all weights, and over what is done to the pixels where that is not nothing."""
        if self.pixels is None:
            return digest(self.model)
        return digest_of({"weights": digest(self.model), "pixels": to_dict(self.pixels)})

    @torch.inference_mode()
    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """CLS (and with `patches` storage and patch) tokens of every slice of every contrast."""
        prepared = preprocess(volume, self.recipe, every_slice=every_slice)
        slices = views(prepared, self.recipe)
        device = next(self.model.parameters()).device
        size = max(1, BATCH_PIXELS // self.recipe.size_px**2)
        cls, storage, patch = [], [], []
        for start in range(0, len(slices), size):
            part = torch.from_numpy(slices[start : start + size]).to(device)
            output = self.model(part if self.pixels is None else self.pixels(part))
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


def views(prepared: Volume, recipe: Recipe) -> Float32[np.ndarray, "view channel row column"]:
    """Every slice of every contrast of a prepared volume as a picture, all slices of the first contrast first."""
    pictures = to_slices(prepared.voxels)
    channels, (rows, columns) = recipe.channels, pictures.shape[2:]
    by_contrast = pictures.reshape(len(pictures), -1, channels, rows, columns).transpose(1, 0, 2, 3, 4)
    return by_contrast.reshape(-1, channels, rows, columns)
