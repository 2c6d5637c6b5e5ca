"""How the paper's decoder learns and answers, on an encoder that is frozen or learns with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor, nn

from braindino.fitting.network import tell_share
from braindino.fitting.pictures import Picture, changed, draw, importance, slices_of, whole, windows
from braindino.fitting.scratch import Slices
from braindino.fitting.upsampling import SMOOTH, UpDecoder, dice_and_cross_entropy, feature_maps
from braindino.progress import note, progress
from braindino.types import Case, Task, Volume
from braindino.volume.io import read_case
from braindino.volume.preprocess import from_slices, restore, to_slices
from braindino.volume.recipe import Recipe

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

Regions = Mapping[str, tuple[int, ...]]
Check = Callable[[Case, Shaped[np.ndarray, "i j k"]], None]


@dataclass(frozen=True)
class Lesson:
    """What is learned on: slices to train on and to validate on."""

    slices: Slices
    held: Slices
    regions: Regions
    contrasts: int
    recipe: Recipe


@contextmanager
def lesson(
    head: str, task: Task, parts: tuple[Sequence[Case], Sequence[Case]], recipe: Recipe, check: Check
) -> Iterator[Lesson]:
    """The slices of the training and of the validation cases, in temporary files while the context lasts.

    Slices of every case that can be read and has a label map; of the others it is told why.

    Raises:
        ValueError: from `check`, which gets each case and its label map, or as `Slices.add`.
    """
    with Slices(head, sum(map(len, parts))) as slices, Slices(head) as held:
        for part, cases in zip((slices, held), parts, strict=True):
            _read_slices(part, cases, recipe, check)
        yield Lesson(slices, held, task.regions, len(task.contrasts), recipe)


def _read_slices(slices: Slices, cases: Sequence[Case], recipe: Recipe, check: Check) -> None:
    for case in cases:
        try:
            volume = read_case(case.scans)
            prepared = whole(volume, recipe)
        except (ValueError, OSError) as error:
            note(f"{case.name} is left out of learning: {error}")
            continue
        if volume.label_map is None:
            note(f"{case.name} is left out of learning: no label map")
            continue
        check(case, volume.label_map)
        slices.add(*slices_of(prepared))


def learn_decoder(
    head: str, model: Any, lesson: Lesson, *, seed: int, steps: int, inside: Mapping[str, nn.Parameter], rate: float
) -> tuple[UpDecoder, dict[str, np.ndarray]]:
    """Learn the decoder, and at `rate` the parameters `inside` the model, by AdamW on Dice plus cross-entropy.

    The model stays in evaluation mode. Slices are drawn and changed anew in every step. Of `LOOKS` looks at the
    validation slices the one with the highest soft Dice, mean over regions, is kept; without validation slices the
    last step. `seed` draws weights, slices and changes.

    Returns:
        The decoder, on the CPU, and what was learned inside.

    Raises:
        ValueError: no slices to train on, MONAI is missing, or patches that the decoder cannot double.
    """
    if not lesson.slices:
        raise ValueError(f"head {head!r}: no training case has a readable scan with a label map")
    loss_of, device = dice_and_cross_entropy(head), next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dim, patch = model.config.dim, model.config.patch_size
        decoder = UpDecoder(dim, patch, lesson.contrasts, len(lesson.regions)).to(device)
    groups = [(RATE, [*decoder.parameters()]), (rate, [*inside.values()])]
    counts = [sum(one.numel() for one in part) for part in (groups[0][1], groups[1][1], [*model.parameters()])]
    tell_share(head, counts[0] + counts[1], counts[0] + counts[2])
    optimiser = torch.optim.AdamW(
        [{"params": part, "lr": full} for full, part in groups if part], lr=RATE, betas=BETAS, weight_decay=DECAY
    )
    rng, held = np.random.default_rng([seed, 5]), _held(lesson.held, seed)
    looks = {round((look + 1) * steps / LOOKS) for look in range(LOOKS)}
    best: tuple[float, Any] = (-1.0, None)
    with progress(f"fit {head}", steps) as advance:
        for step in range(steps):
            for group, (full, _) in zip(optimiser.param_groups, groups, strict=False):
                group["lr"] = full * (1 - step / steps)
            drawn = draw(lesson.slices, BATCH_SLICES, rng)
            batch = [changed(one, forced, lesson.recipe, lesson.contrasts, rng) for one, forced in drawn]
            logits, wanted = _answer(model, decoder, batch, lesson, gradient=bool(inside))
            loss = loss_of(logits, wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([*groups[0][1], *groups[1][1]], CLIP)
            optimiser.step()
            if held and step + 1 in looks:
                reached = _soft_dice(model, decoder, held, lesson)
                best = max(best, (reached, _copied(decoder, inside)), key=lambda found: found[0])
            advance(note=f"loss {float(loss.detach()):.3f}")
    learned, arrays = best[1] or _copied(decoder, inside)
    decoder.load_state_dict(learned)
    return decoder.cpu().eval().requires_grad_(False), arrays


def segment(
    model: Any, decoder: UpDecoder, recipe: Recipe, original: Volume, names: Sequence[str]
) -> dict[str, Bool[np.ndarray, "i j k"]]:
    """Where each region is in a volume, on its own grid: probability of 1/2 or more.

    Slices in which the brain does not fit into the encoder's window are covered by windows that overlap by half.

    Raises:
        ValueError: another number of contrasts than in training, or a scan that the recipe refuses.
    """
    if len(original.contrasts) != len(decoder.fusion):
        raise ValueError(f"{len(original.contrasts)} contrasts, but the head learned on {len(decoder.fusion)}")
    prepared, device = whole(original, recipe), next(model.parameters()).device
    slices, moved = to_slices(prepared.voxels), decoder.to(device)
    parts = [slices[first : first + BATCH_SLICES] for first in range(0, len(slices), BATCH_SLICES)]
    found = [_probability(model, moved, torch.from_numpy(part).to(device), recipe.size_px) for part in parts]
    probability = restore(from_slices(np.concatenate(found)), prepared, original)
    return {name: probability[n] >= 0.5 for n, name in enumerate(names)}


def decoder_arrays(decoder: UpDecoder) -> dict[str, np.ndarray]:
    """Weights of a decoder, and the side of a patch."""
    arrays = {name: tensor.cpu().numpy().copy() for name, tensor in decoder.state_dict().items()}
    return arrays | {"patch": np.array([2 ** len(decoder.steps)])}


def decoder_from(state: Mapping[str, np.ndarray]) -> UpDecoder:
    """The inverse of `decoder_arrays`."""
    weights = {name: torch.from_numpy(np.array(array)) for name, array in state.items() if name != "patch"}
    contrasts, wide = weights["fusion"].shape
    decoder = UpDecoder(wide // 4, int(state["patch"][0]), contrasts, len(weights["last.bias"]))
    decoder.load_state_dict(weights)
    return decoder.eval().requires_grad_(False)


def _held(slices: Slices, seed: int) -> list[Picture]:
    if len(slices) <= HELD_SLICES:
        return [Picture(*slices[place]) for place in range(len(slices))]
    return [one for one, _ in draw(slices, HELD_SLICES, np.random.default_rng([seed, 6]))]


def _copied(decoder: UpDecoder, inside: Mapping[str, nn.Parameter]) -> tuple[Any, dict[str, np.ndarray]]:
    learned = {name: tensor.detach().clone() for name, tensor in decoder.state_dict().items()}
    return learned, {name: one.detach().cpu().numpy().copy() for name, one in inside.items()}


def _answer(
    model: Any, decoder: UpDecoder, batch: Sequence[tuple[Tensor, Tensor]], lesson: Lesson, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Logits and wanted regions of a batch; `gradient` into the model, or only into the decoder."""
    device = next(model.parameters()).device
    labels = torch.stack([known for _, known in batch]).to(device)
    wanted = torch.stack([torch.isin(labels, torch.tensor(v, device=device)) for v in lesson.regions.values()], 1)
    with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
        maps = feature_maps(model, torch.stack([values for values, _ in batch]).to(device), lesson.contrasts)
    return decoder(maps), wanted.float()


@torch.no_grad()
def _soft_dice(model: Any, decoder: UpDecoder, held: Sequence[Picture], lesson: Lesson) -> float:
    """Soft Dice 2 sum(p y) / (sum p + sum y) of each region over all slices, then the mean over regions."""
    sums = torch.zeros(2, len(lesson.regions))
    for first in range(0, len(held), BATCH_SLICES):
        some = held[first : first + BATCH_SLICES]
        batch = [changed(one, False, lesson.recipe, lesson.contrasts, None) for one in some]
        logits, wanted = _answer(model, decoder, batch, lesson, gradient=False)
        chance = logits.sigmoid()
        sums += torch.stack([2 * (chance * wanted).sum((0, 2, 3)), (chance + wanted).sum((0, 2, 3))]).cpu()
    return float(((sums[0] + SMOOTH) / (sums[1] + SMOOTH)).mean())


@torch.no_grad()
def _probability(
    model: Any, decoder: UpDecoder, pictures: Float[Tensor, "slice channel row column"], size: int
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
            total = total + nn.functional.pad(chance * weight, edge)
            given[place] += weight
    return np.asarray((total / given).cpu().numpy())
