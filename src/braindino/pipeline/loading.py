"""Which encoder: a plug-in with weights, variant, seed and changes to its recipe, loaded here or in another process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from braindino import catalog
from braindino.types import Encoder
from braindino.volume.recipe import Recipe


def load_encoder(name: str, weights: Path | None = None, seed: int = 0, variant: str = "") -> Encoder:
    """An encoder by its plug-in name (see `braindino list encoders`), strictly loaded from `weights`.

    Args:
        name: the plug-in.
        weights: file or folder; None for an encoder that has none.
        seed: for encoders that draw their weights.
        variant: one of those that the plug-in names; "" is the first.

    Raises:
        ValueError: unknown name or variant; weights that are missing, damaged or foreign, or that it does not take.
    """
    load = catalog.load("encoders", name).load
    encoder: Encoder = load(None if weights is None else Path(weights), seed=seed, variant=variant)
    return encoder


@dataclass(frozen=True)
class EncoderChoice:
    """All that it takes to load an encoder, here or in another process."""

    name: str
    """Plug-in (see `braindino list encoders`)."""
    weights: Path | None = None
    """File or folder; None for an encoder without weights."""
    variant: str = ""
    """One of the plug-in's `VARIANTS`; "" is the first."""
    seed: int = 0
    """For encoders that draw their weights."""
    slices: int | None = None
    """Slices per contrast, where not those of the encoder's recipe."""
    size_px: int | None = None
    """Side of a slice in pixels, where not that of the encoder's recipe; a multiple of the patch."""

    def load(self) -> Encoder:
        """The encoder, with the changes to its recipe.

        Raises:
            ValueError: as `load_encoder`; or changes to the recipe of an encoder that takes whole volumes, or that do
                not fit it.
        """
        encoder = load_encoder(self.name, self.weights, self.seed, self.variant)
        changes = {name: value for name in ("slices", "size_px") if (value := getattr(self, name)) is not None}
        if not changes:
            return encoder
        if not isinstance(encoder.recipe, Recipe):
            raise ValueError(f"encoder {self.name!r} takes whole volumes; --slices and --size-px are of slices")
        changed: Encoder = replace(encoder, recipe=replace(encoder.recipe, **changes))  # type: ignore[type-var]
        return changed
