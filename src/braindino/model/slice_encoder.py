"""The slice-wise encoder: a volume through its recipe, slice by slice through the frozen ViT."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from braindino.model.vit import VisionTransformer, in_bfloat16
from braindino.model.weights import digest
from braindino.types import Tokens, Volume
from braindino.volume.preprocess import preprocess, slice_positions_mm, to_slices
from braindino.volume.recipe import Recipe

BATCH_PIXELS = {"cpu": 8 * 224 * 224, "cuda": 64 * 224 * 224}
"""Pixels per forward pass, by device: what a core's cache holds is faster. Changes no result but by rounding."""
VARIANTS = ("exact", "bf16", "brain", "published", "paper")
"""Of the plug-ins. `published` and `paper` are exact and differ by their recipe or weights."""
OTHERS = ("bf16", "brain")
"""Variants that are other encoders: a head learned on one does not serve another."""
BRAIN_BATCH = 8
"""Slices that the variant `brain` computes at once, on every device, since it keeps the patches of all of them."""


def images_at_once(device: torch.device, size_px: int) -> int:
    """Square pictures of so many pixels per forward pass."""
    return max(1, BATCH_PIXELS.get(device.type, BATCH_PIXELS["cuda"]) // size_px**2)


@dataclass(frozen=True)
class SliceEncoder:
    """A frozen ViT with its recipe (the `Encoder` protocol of `types`). One view per slice and contrast.

    With `recipe.neighbours` n a view has 2 n + 1 channels: the slice between those below and above it.
    """

    name: str
    model: VisionTransformer
    recipe: Recipe
    variant: str = "exact"
    """That of the plug-in. `bf16`: linear layers and attention in bfloat16. `brain`: patches that are background in all
    of `BRAIN_BATCH` slices in a row take no part, CLS only. Both are faster where a CPU (or GPU) has such instructions
    or a slice much background."""
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
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}, expected {', '.join(VARIANTS)}")
        self.model.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.model.config.dim

    @property
    def exact(self) -> bool:
        """Whether every patch of a slice is computed in float32; else it is another encoder of the same weights."""
        return self.variant not in OTHERS

    def digest(self) -> str:
        """SHA-256 over all weights, and over the variant where that is another encoder."""
        found = digest(self.model)
        return found if self.exact else sha256(f"{found} {self.variant}".encode()).hexdigest()

    @cached_property
    def _computing(self) -> VisionTransformer:
        """The transformer that computes the tokens."""
        return in_bfloat16(self.model) if self.variant == "bf16" else self.model

    def _kept(self, images: Float[Tensor, "batch channel row column"]) -> Bool[Tensor, " patch"] | None:
        """The patches that are not background in all images, for the variant `brain`."""
        if self.variant != "brain":
            return None
        patch = self.model.config.patch_size
        seen = (images != self.recipe.background).any(dim=1).any(dim=0)
        return seen.unfold(0, patch, patch).unfold(1, patch, patch).flatten(2).any(dim=2).flatten()

    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """CLS (and with `patches` storage and patch) tokens of every slice of every contrast."""
        return self.tokens_of(self.prepare(volume, every_slice=every_slice), patches=patches)

    def prepare(self, volume: Volume, *, every_slice: bool = False) -> Volume:
        """The volume on the grid of the recipe: the first half of `tokens`, which needs no GPU."""
        return preprocess(volume, self.recipe, every_slice=every_slice)

    @torch.inference_mode()
    def tokens_of(self, prepared: Volume, *, patches: bool = False) -> Tokens:
        """Tokens of a prepared volume: the second half of `tokens`."""
        if patches and self.variant == "brain":
            raise ValueError("variant 'brain' gives CLS tokens only; use the variant 'exact' or 'bf16' for patches")
        pictures = to_slices(prepared.voxels)
        channels, (rows, columns) = self.model.config.in_channels, pictures.shape[2:]
        views = pictures.reshape(len(pictures), -1, channels, rows, columns).transpose(1, 0, 2, 3, 4)
        slices = views.reshape(-1, channels, rows, columns)
        device = next(self.model.parameters()).device
        size = images_at_once(device, self.recipe.size_px) if self.variant != "brain" else BRAIN_BATCH
        cls: list[np.ndarray] = []
        storage: list[np.ndarray] = []
        patch: list[np.ndarray] = []
        for start in range(0, len(slices), size):
            images = torch.from_numpy(slices[start : start + size]).to(device)
            if not patches:
                cls.append(self._computing.cls(images, self._kept(images)).cpu().numpy())
                continue
            output = self._computing(images)
            for kind, found in ((cls, output.cls), (storage, output.storage), (patch, output.patch)):
                kind.append(found.cpu().numpy())
        side = self.recipe.size_px // self.model.config.patch_size
        return Tokens(
            cls=np.concatenate(cls),
            patch=np.concatenate(patch) if patches else None,
            storage=np.concatenate(storage) if patches else None,
            grid=(side, side),
            position_mm=np.tile(slice_positions_mm(prepared), len(prepared.contrasts)),
            contrasts=tuple(c for c in prepared.contrasts for _ in range(prepared.voxels.shape[3])),
            prepared=prepared,
        )
