"""The paper's dense head: tokens of four blocks, doubled up to pixels by four transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from braindino.fitting.network import tell_share
from braindino.fitting.pictures import Picture, changed, draw, importance, pictures_of, whole, windows
from braindino.fitting.upsampling import SMOOTH, UpDecoder, dice_and_cross_entropy, feature_maps
from braindino.heads import check_label_map, one_label_map, slice_model, written_and_scored
from braindino.progress import note, progress
from braindino.types import Case, Encoder, Kind, Task
from braindino.volume.io import read_case
from braindino.volume.preprocess import from_slices, restore, to_slices
from braindino.volume.recipe import Recipe

NAME = "conv_decoder"
STEPS = 400
"""For small runs on a CPU; the paper's code: 300 epochs of 250, at a rate of 3e-4 (docs/heads.md)."""
BATCH_SLICES = 12
RATE, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.98), 0.05, 12.0
"""AdamW, its betas, decay and clipping as in the paper's code; the rate falls linearly to 0."""
LOOKS = 8
"""How often validation is looked at; the best look is kept."""
HELD_SLICES = 96
"""Validation slices at most, drawn once, as many with a lesion as in a batch."""
MIRROR = True
"""Answers are the mean over a slice and its left-right mirror image."""


@dataclass(frozen=True)
class Fitted:
    """The decoder; the encoder is not in it."""

    needs: ClassVar[Literal["patch"]] = "patch"
    kinds: ClassVar[tuple[Kind, ...]] = ("segmentation",)
    decoder: UpDecoder

    def state(self) -> dict[str, np.ndarray]:
        """Weights of the decoder, and the side of a patch."""
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in self.decoder.state_dict().items()}
        return arrays | {"patch": np.array([2 ** len(self.decoder.steps)])}

    @torch.no_grad()
    def predict_dense(self, encoder: Encoder, task: Task, case: Case, out: Path | None) -> dict[str, float]:
        """Segment one case on its own grid; Dice and HD95 per region where the case has a label map.

        Regions are thresholded at 1/2 and written as one label map, the innermost region last. Slices in which the
        brain does not fit into the encoder's window are covered by windows that overlap by half (see `importance`).

        Raises:
            ValueError: as `slice_model` and `written_and_scored`, or another number of contrasts than in training.
        """
        model, recipe = slice_model(encoder, NAME), encoder.recipe
        assert isinstance(recipe, Recipe)
        original = read_case(case.scans)
        if len(original.contrasts) != len(self.decoder.fusion):
            raise ValueError(
                f"{case.name} has {len(original.contrasts)} contrasts, the head learned on {len(self.decoder.fusion)}"
            )
        prepared = whole(original, recipe)
        slices, device = to_slices(prepared.voxels), next(model.parameters()).device
        decoder = self.decoder.to(device)
        parts = [slices[first : first + BATCH_SLICES] for first in range(0, len(slices), BATCH_SLICES)]
        found = [_probability(model, decoder, torch.from_numpy(part).to(device), recipe.size_px) for part in parts]
        probability = restore(from_slices(np.concatenate(found)), prepared, original)
        regions = {name: probability[n] >= 0.5 for n, name in enumerate(task.regions)}
        return written_and_scored(task, case, original, one_label_map(regions, task), out)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The inverse of `Fitted.state`."""
    weights = {name: torch.from_numpy(np.array(array)) for name, array in state.items() if name != "patch"}
    contrasts, wide = weights["fusion"].shape
    decoder = UpDecoder(wide // 4, int(state["patch"][0]), contrasts, len(weights["last.bias"]))
    decoder.load_state_dict(weights)
    return Fitted(decoder.eval())


def fit_dense(
    encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int, steps: int = STEPS
) -> Fitted:
    """Learn the decoder by AdamW on Dice plus cross-entropy (MONAI's), on slices that are drawn and changed anew.

    The encoder stays in evaluation mode and without gradient. Slices of all cases are held in memory (float16). Of
    `LOOKS` looks at the validation slices the one with the highest soft Dice, mean over regions, is kept; without
    validation slices the last step. `seed` draws weights, slices and changes.

    Raises:
        ValueError: as `slice_model`, MONAI is missing, a label map of another scheme, or no training case can be used.
    """
    model, recipe = slice_model(encoder, NAME), encoder.recipe
    assert isinstance(recipe, Recipe)
    loss_of, device = dice_and_cross_entropy(NAME), next(model.parameters()).device
    slices, contrasts = _slices(encoder, task, train), len(train[0].scans)
    if not slices:
        raise ValueError(f"no training case of task {task.name} has a readable scan with a label map")
    held = _held(_slices(encoder, task, validation), seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = UpDecoder(encoder.dim, model.config.patch_size, contrasts, len(task.regions)).to(device)
    trained, kept = (sum(one.numel() for one in part.parameters()) for part in (decoder, model))
    tell_share(NAME, trained, trained + kept)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY)
    rng = np.random.default_rng([seed, 5])
    lesion = np.array([place for place, one in enumerate(slices) if one.labels.any()], int)
    looks = {round((look + 1) * steps / LOOKS) for look in range(LOOKS)}
    best: tuple[float, Any] = (-1.0, None)
    with progress(f"fit {NAME}", steps) as advance:
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / steps)
            batch = [changed(one, forced, recipe, contrasts, rng) for one, forced in
                     draw(slices, lesion, BATCH_SLICES, rng)]  # fmt: skip
            logits, wanted = _answer(model, decoder, batch, task, contrasts, device)
            loss = loss_of(logits, wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), CLIP)
            optimiser.step()
            if held and step + 1 in looks:
                reached = _soft_dice(model, decoder, held, task, recipe, contrasts)
                best = max(best, (reached, deepcopy(decoder.state_dict())), key=lambda pair: pair[0])
            advance(note=f"loss {float(loss.detach()):.3f}")
    if best[1] is not None:
        decoder.load_state_dict(best[1])
    return Fitted(decoder.eval().requires_grad_(False))


def _slices(encoder: Encoder, task: Task, cases: Sequence[Case]) -> list[Picture]:
    """Slices of every case that can be read; of the others it is told why."""
    found: list[Picture] = []
    assert isinstance(encoder.recipe, Recipe)
    for case in cases:
        try:
            volume = read_case(case.scans)
            prepared = whole(volume, encoder.recipe)
        except (ValueError, OSError) as error:
            note(f"{case.name} is left out of learning: {error}")
            continue
        if volume.label_map is None:
            note(f"{case.name} is left out of learning: no label map")
            continue
        check_label_map(task, case, volume.label_map)
        found += pictures_of(prepared)
    return found


def _held(slices: list[Picture], seed: int) -> list[Picture]:
    if len(slices) <= HELD_SLICES:
        return slices
    lesion = np.array([place for place, one in enumerate(slices) if one.labels.any()], int)
    return [one for one, _ in draw(slices, lesion, HELD_SLICES, np.random.default_rng([seed, 6]))]


def _answer(
    model: Any, decoder: UpDecoder, batch: Sequence[tuple[Tensor, Tensor]], task: Task, contrasts: int, device: Any
) -> tuple[Tensor, Tensor]:
    """Logits and wanted regions of a batch."""
    labels = torch.stack([known for _, known in batch]).to(device)
    wanted = torch.stack([torch.isin(labels, torch.tensor(v, device=device)) for v in task.regions.values()], 1)
    with torch.no_grad():
        maps = feature_maps(model, torch.stack([values for values, _ in batch]).to(device), contrasts)
    return decoder(maps), wanted.float()


@torch.no_grad()
def _soft_dice(
    model: Any, decoder: UpDecoder, held: Sequence[Picture], task: Task, recipe: Recipe, contrasts: int
) -> float:
    """Soft Dice 2 sum(p y) / (sum p + sum y) of each region over all slices, then the mean over regions."""
    device, sums = next(model.parameters()).device, torch.zeros(2, len(task.regions))
    for first in range(0, len(held), BATCH_SLICES):
        batch = [changed(one, False, recipe, contrasts, None) for one in held[first : first + BATCH_SLICES]]
        logits, wanted = _answer(model, decoder, batch, task, contrasts, device)
        chance = logits.sigmoid()
        sums += torch.stack([2 * (chance * wanted).sum((0, 2, 3)), (chance + wanted).sum((0, 2, 3))]).cpu()
    return float(((sums[0] + SMOOTH) / (sums[1] + SMOOTH)).mean())


def _probability(
    model: Any, decoder: UpDecoder, pictures: Tensor, size: int
) -> Float32[np.ndarray, "slice region row column"]:
    """Probability of each region, window by window."""
    side, contrasts = pictures.shape[-1], len(decoder.fusion)
    weight = importance(size).to(pictures.device)
    total: Any = 0.0
    given = torch.zeros(side, side, device=pictures.device)
    for row in windows(side, size):
        for column in windows(side, size):
            place = slice(row, row + size), slice(column, column + size)
            window = pictures[:, :, place[0], place[1]]
            chance = decoder(feature_maps(model, window, contrasts)).sigmoid()
            if MIRROR:
                chance = (chance + decoder(feature_maps(model, window.flip(3), contrasts)).sigmoid().flip(3)) / 2
            edge = (column, side - column - size, row, side - row - size)
            total = total + torch.nn.functional.pad(chance * weight, edge)
            given[place] += weight
    return np.asarray((total / given).cpu().numpy())
