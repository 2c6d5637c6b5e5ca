"""Light dense head: one linear map from a patch's tokens to its pixels, for segmentation on a frozen encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch.nn import functional as F

from braindino.fitting.scratch import Slices
from braindino.heads import check_label_map, one_label_map
from braindino.progress import note
from braindino.types import Case, Encoder, Kind, Task, Volume
from braindino.volume.io import read_case
from braindino.volume.preprocess import from_slices, restore, to_slices
from braindino.volume.recipe import Recipe

NAME = "decoder"
STRENGTHS = (1e-4, 1e-2)
"""Weight decays tried; the one with the best validation Dice is kept."""
STEPS = 150
LEARNING_RATE = 3e-3
BATCH_SLICES = 24
AT_ONCE_BYTES = 2**28
"""Of tokens as float32, where all slices are gone through."""


@dataclass(frozen=True)
class Fitted:
    """The map W (region x pixels of a patch, contrasts x dim) and bias, after standardising the tokens."""

    needs: ClassVar[Literal["patch"]] = "patch"
    kinds: ClassVar[tuple[Kind, ...]] = ("segmentation",)
    weight: Float32[np.ndarray, "output feature"]
    bias: Float32[np.ndarray, " output"]
    mean: Float32[np.ndarray, " feature"]
    scale: Float32[np.ndarray, " feature"]

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned."""
        return {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}

    def predict_dense(self, encoder: Encoder, task: Task, volume: Volume) -> UInt8[np.ndarray, "i j k"]:
        """The label map of a volume on its own grid: regions are thresholded at 1/2, the innermost is set last."""
        tokens, prepared = _tokens(encoder, volume)
        logits = self._logits(torch.from_numpy(tokens)).numpy()
        maps = _to_pixels(logits, len(task.regions), _grid(encoder))
        probability = restore(from_slices(1 / (1 + np.exp(-maps))), prepared, volume)
        return one_label_map({name: probability[n] >= 0.5 for n, name in enumerate(task.regions)}, task)

    def _logits(self, tokens: torch.Tensor) -> torch.Tensor:
        standard = (tokens.float() - torch.from_numpy(self.mean)) / torch.from_numpy(self.scale)
        return F.linear(standard, torch.from_numpy(self.weight), torch.from_numpy(self.bias))


def from_state(state: dict[str, np.ndarray]) -> Fitted:
    """The inverse of `Fitted.state`."""
    return Fitted(**state)


def fit_dense(
    encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int, steps: int = STEPS
) -> Fitted:
    """Learn the map by Adam on binary cross-entropy plus soft Dice over slices, half of them with a lesion.

    Tokens and targets of all slices lie on disk (see `Slices`).

    Raises:
        ValueError: no training case can be read, or none has a label map; or as `Slices.add`.
    """
    with Slices(NAME, len(train) + len(validation)) as slices, Slices(NAME) as held:
        _add(slices, encoder, task, train)
        mean, scale = _standard(slices)
        candidates = [_train(slices, mean, scale, strength, seed, steps) for strength in STRENGTHS]
        if not validation:
            return candidates[0]
        _add(held, encoder, task, validation)
        return candidates[int(np.argmax([_dice(head, held) for head in candidates]))]


def _train(slices: Slices, mean: torch.Tensor, scale: torch.Tensor, strength: float, seed: int, steps: int) -> Fitted:
    rng = np.random.default_rng([seed, 2])
    tokens, targets = slices[0]
    weight = torch.zeros(targets.shape[-1], tokens.shape[-1], requires_grad=True)
    bias = torch.full((targets.shape[-1],), -3.0, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=LEARNING_RATE, weight_decay=strength / LEARNING_RATE)
    lesion = slices.lesion
    for step in range(steps):
        half = rng.choice(lesion, BATCH_SLICES // 2)
        chosen = np.concatenate([half, rng.integers(len(slices), size=BATCH_SLICES // 2)])
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        x, y = _taken(slices, chosen.tolist())
        logits = F.linear((x.float() - mean) / scale, weight, bias)
        wanted = y.float()
        loss = F.binary_cross_entropy_with_logits(logits, wanted) + 1 - _soft_dice(torch.sigmoid(logits), wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Fitted(weight.detach().numpy(), bias.detach().numpy(), mean.numpy(), scale.numpy())


def _standard(slices: Slices) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature over all tokens, some slices at once, put together in float64.

    With groups of n_i tokens: mean = sum n_i m_i / n, variance = sum ((n_i - 1) s_i^2 + n_i (m_i - mean)^2) / (n - 1).
    """
    found = []
    for x, _ in _groups(slices):
        tokens = x.float()
        count = tokens.shape[0] * tokens.shape[1]
        found.append((count, tokens.mean(dim=(0, 1)).double(), tokens.std(dim=(0, 1)).double()))
    total = sum(count for count, _, _ in found)
    mean = torch.stack([count * own for count, own, _ in found]).sum(0) / total
    within = [(count - 1) * spread**2 + count * (own - mean) ** 2 for count, own, spread in found]
    scale = (torch.stack(within).sum(0) / (total - 1)).sqrt()
    return mean.float(), scale.float() + 1e-6


def _dice(head: Fitted, slices: Slices) -> float:
    """Soft Dice of the head over all slices and regions."""
    sums = torch.zeros(2, dtype=torch.float64)
    for x, y in _groups(slices):
        probability = torch.sigmoid(head._logits(x))
        sums += torch.stack([(probability * y).sum(), probability.sum() + y.sum()]).double()
    return float((2 * sums[0] + 1e-5) / (sums[1] + 1e-5))


def _groups(slices: Slices) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All slices in order, as many at once as `AT_ONCE_BYTES` hold."""
    count = max(1, AT_ONCE_BYTES // (4 * slices[0][0].size))
    for first in range(0, len(slices), count):
        yield _taken(slices, range(first, min(first + count, len(slices))))


def _taken(slices: Slices, places: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (slice, patch, feature) as float16 and target pixels (slice, patch, region x pixel) as bool."""
    values, labels = zip(*(slices[place] for place in places), strict=True)
    return torch.from_numpy(np.stack(values)), torch.from_numpy(np.stack(labels))


def _soft_dice(probability: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Soft Dice 2 sum(p y) / (sum p + sum y) over everything."""
    return (2 * (probability * wanted).sum() + 1e-5) / (probability.sum() + wanted.sum() + 1e-5)


def _add(slices: Slices, encoder: Encoder, task: Task, cases: Sequence[Case]) -> None:
    """Tokens and target pixels of every case that can be read and has a label map; of the others it is told why."""
    grid, reason = _grid(encoder), "no cases"
    for case in cases:
        try:
            volume = read_case(case.scans)
            x, prepared = _tokens(encoder, volume)
            if volume.label_map is None or prepared.label_map is None:
                raise ValueError("no label map")
        except (ValueError, OSError) as error:
            reason = f"{case.name} is left out of learning: {error}"
            note(reason)
            continue
        check_label_map(task, case, volume.label_map)
        regions = np.stack([np.isin(prepared.label_map, labels) for labels in task.regions.values()])
        slices.add(x, _to_patches(to_slices(regions), grid))
    if not len(slices):
        raise ValueError(f"head {NAME!r}: no case has a readable scan with a label map; {reason}")


def _tokens(encoder: Encoder, volume: Volume) -> tuple[np.ndarray, Volume]:
    """Patch tokens with the contrasts side by side: (slice, patch, contrast x dim), float16."""
    _grid(encoder)
    tokens = encoder.tokens(volume, patches=True, every_slice=True)
    if tokens.patch is None:
        raise ValueError(f"encoder {encoder.name!r} gives no patch tokens; a dense head cannot use it")
    count = len(volume.contrasts)
    parts = tokens.patch.reshape(count, -1, *tokens.patch.shape[1:])
    return np.concatenate(list(parts), axis=-1).astype(np.float16), tokens.prepared


def _grid(encoder: Encoder) -> tuple[int, int]:
    """Side of the patch grid and side of a patch in pixels; ValueError where the encoder does not take slices."""
    if not isinstance(encoder.recipe, Recipe):
        raise ValueError(f"encoder {encoder.name!r} takes whole volumes; this head learns on the patches of slices")
    if not hasattr(encoder, "model"):
        raise ValueError(f"encoder {encoder.name!r} gives no patch tokens; a dense head cannot use it")
    patch: Any = encoder
    size = int(patch.model.config.patch_size)
    return encoder.recipe.size_px // size, size


def _to_patches(
    maps: Bool[np.ndarray, "slice region row column"], grid: tuple[int, int]
) -> Bool[np.ndarray, "slice patch output"]:
    side, patch = grid
    slices, regions = maps.shape[:2]
    cut = maps.reshape(slices, regions, side, patch, side, patch)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(slices, side * side, regions * patch * patch)


def _to_pixels(
    outputs: Float32[np.ndarray, "slice patch output"], regions: int, grid: tuple[int, int]
) -> Float32[np.ndarray, "slice region row column"]:
    side, patch = grid
    cut = outputs.reshape(-1, side, side, regions, patch, patch)
    return cut.transpose(0, 3, 1, 4, 2, 5).reshape(-1, regions, side * patch, side * patch)
