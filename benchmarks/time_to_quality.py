"""Time to quality: how much sooner this recipe reaches what the plain one has learned after its whole budget.

    python benchmarks/time_to_quality.py --work W --out benchmarks/results/time_to_quality \
        --picture docs/time_to_quality.png

The plain recipe differs in four things and in nothing else (network, head but for its prototypes, losses, optimiser,
schedules, scales of the crops, batch, steps, threads are those of `waves.tiny_run`):

- `slices`   slices of the whole field of view, of which the brain fills about a third; here they are cut to the brain;
- `subjects` all slices shuffled; here a batch holds one slice of each of its subjects;
- `crops`    DINO's per-image crops: 8-bit PIL pictures, windows anywhere, brightness and contrast, blur, solarisation;
             here `pretraining.crops`: float32, windows on the brain, the intensities of scanners;
- `prototypes` 65 536 per head; here 256, matched to the batch.

Arms: `plain`, `this`, and `plain` with each of the four alone. What counts is the probe: the balanced accuracy with
which k nearest neighbours (k = 10, mean CLS token) name the kind of *other* subjects (see `waves.py`; chance is 1/4),
every `POINT` steps, mean over `--seeds` runs. The value to reach is that of `plain` at its last step. An arm's steps to
reach it are those of the first point of its curve that is as high, with a line between points, and none where it never
is; for `plain` too, so it is not charged for steps after it first had the value. Seconds are these steps times the
median wall-clock of a step with its batch, measured apart, all arms in turn, on the same cores. Intervals: 95 %,
bootstrap over the asked subjects; a draw gives curves, value to reach, steps and ratio anew. They do not contain how
runs with other seeds would differ.

What it cannot show: that the ratio holds for ViT-B on scans of patients. A tiny network pays far more for prototypes
than ViT-B does; the column `ratio_steps`, which no clock enters, is the part that does not hang on that.

Quality may be computed on a busy machine (`--part quality`), times only on a free one (`--part times`).
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from waves import WAVES, asked_of, cls_of, made_corpus, tiny_run, told

from braindino.corpus.shards import open_corpus
from braindino.pretraining import loop
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.masks import sample_masks
from braindino.pretraining.networks import Batch
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.schedules import schedules_of
from braindino.pretraining.setup import Trainee, set_up
from braindino.progress import progress
from braindino.record import write_array, write_bytes, write_json, write_table
from braindino.reporting.figures import PALETTE, canvas, style
from braindino.stats.intervals import bootstrap_counts, percentile_interval

OURS = ("slices", "subjects", "crops", "prototypes")
ARMS: dict[str, tuple[str, ...]] = {"plain": (), "this": OURS} | {f"plain + {one}": (one,) for one in OURS}
TIGHT_PX, WIDE_PX = 64, 88
"""Sides of slices cut to the brain, and of the whole field of view."""
POINT, K = 20, 10
BLOCK, ROUNDS = 4, 12
"""Steps that an arm is timed at a time, and how often its turn comes."""
SIX = 6.0
"""Standard deviations that an 8-bit picture spans."""


@dataclass(frozen=True)
class PlainBatches(Batches):
    """Batches of which some things are done the plain way."""

    ours: tuple[str, ...] = ()

    def slices(self, step: int) -> np.ndarray:
        """All slices of the subjects in a random order, epoch after epoch."""
        if "subjects" in self.ours:
            return super().slices(step)
        of_subject, size = self.corpus.slices_of_subject, self.config.batch_size
        pool = np.concatenate([of_subject[name] for name in self.subjects])
        epoch, place = divmod(step * size, len(pool))
        both = [np.random.default_rng([self.config.seed, epoch + n]).permutation(pool) for n in (0, 1)]
        return np.concatenate(both)[place : place + size]

    def passes(self, step: int) -> list[Batch]:
        """One pass."""
        if "crops" in self.ours:
            return super().passes(step)
        crops, model = self.config.crops, self.config.model
        rng = np.random.default_rng([self.config.seed, step])
        pictures = [self.picture(number) for number in self.slices(step)]
        jobs = [(crops.global_px, crops.global_scale, 0.0, 0.0), (crops.global_px, crops.global_scale, 0.9, 0.2)]
        jobs += [(crops.local_px, crops.local_scale, 0.5, 0.0)] * crops.local_count
        made = [np.stack([plain_crop(one, *job, rng) for one in pictures]) for job in jobs]
        side = crops.global_px // model.patch_size
        loss = self.config.loss
        masks = sample_masks(
            rng, 2 * len(pictures), (side, side), probability=loss.mask_probability, ratio=loss.mask_ratio
        )
        large, small = (torch.from_numpy(np.concatenate(part)[:, None]) for part in (made[:2], made[2:]))
        return [Batch(large, small, large[:0], patch_masks=torch.from_numpy(masks))]

    def picture(self, number: int) -> Image.Image:
        """A slice as 8 bits."""
        values = self.corpus.read(int(number))[0]
        return Image.fromarray(np.uint8(np.clip((values - self.corpus.recipe.background) / SIX, 0, 1) * 255))


def plain_crop(
    picture: Image.Image, side: int, scale: tuple[float, float], blur: float, invert: float, rng: np.random.Generator
) -> np.ndarray:
    """What DINO's transforms do to a grey picture: a window anywhere, a flip, brightness, contrast, blur, inversion."""
    width, height = picture.size
    area, aspect = width * height * rng.uniform(*scale), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide, high = (min(float(np.sqrt(area * x)), float(most)) for x, most in ((aspect, width), (1 / aspect, height)))
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    crop = picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high))
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    if rng.random() < 0.8:
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast):
            crop = change(crop).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < blur:
        crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0) * side / 224))
    if rng.random() < invert:
        crop = ImageOps.solarize(crop, 128)
    return centred(crop)


def centred(picture: Image.Image) -> np.ndarray:
    """0 to 255 as -1 to 1."""
    return (np.asarray(picture, np.float32) / 255 - 0.5) / 0.5


def run_of(arm: str, work: Path, steps: int, seed: int) -> PlainBatches:
    """Corpus, config and batches of an arm."""
    ours = ARMS[arm]
    corpus = open_corpus(work / f"corpus{TIGHT_PX if 'slices' in ours else WIDE_PX}")
    config = replace(tiny_run(corpus, asked_of(corpus)[0], steps), seed=seed)
    if "prototypes" not in ours:
        config = replace(
            config,
            dino_head=replace(config.dino_head, prototypes=65536),
            ibot_head=replace(config.ibot_head, prototypes=65536),
        )
    return PlainBatches(corpus, config, training_subjects(corpus, config), ours=ours)


def steps_of(batches: Batches, config: PretrainConfig) -> Iterator[tuple[int, Trainee]]:
    """Train; after every step its number, from 1, and the networks."""
    trainee, schedules = set_up(config, None, Ranks()), schedules_of(config)
    yield 0, trainee
    for step, passes in enumerate(batches(0)):
        loop._step(trainee, passes, config, schedules, step, Ranks())
        yield step + 1, trainee


def quality(arm: str, work: Path, steps: int, seed: int) -> np.ndarray:
    """Who is told right, at the start and every `POINT` steps: (point, subject). Kept in a file."""
    path = work / "told" / f"{arm}, seed {seed}, {steps} steps.npy"
    plain = "crops" not in ARMS[arm]
    if not path.is_file():
        batches, found = run_of(arm, work, steps, seed), []
        asked, kinds = asked_of(batches.corpus)
        seen = (lambda number: centred(batches.picture(number))[None]) if plain else None
        with progress(f"{arm}, seed {seed}", steps) as advance:
            for done, trainee in steps_of(batches, batches.config):
                if done % POINT == 0:
                    network = trainee.state.teacher.backbone
                    found.append(told(cls_of(network, batches.corpus, asked, seen), kinds, K))
                advance(min(done, 1), f"accuracy {found[-1].mean():.2f}")
        write_array(path, np.stack(found))
    return np.load(path)


def seconds_per_step(work: Path) -> pd.DataFrame:
    """Wall-clock of a step with its batch, of every arm in turn."""
    steps = 1 + BLOCK * (ROUNDS + 1)
    running = {arm: steps_of(run := run_of(arm, work, steps, 0), run.config) for arm in ARMS}
    for one in running.values():
        for _ in range(1 + BLOCK):
            next(one)
    rows = []
    for turn in range(ROUNDS):
        for arm in (list(ARMS) * 2)[turn % len(ARMS) :][: len(ARMS)]:
            start = time.perf_counter()
            for _ in range(BLOCK):
                next(running[arm])
            rows.append({"round": turn, "arm": arm, "seconds": (time.perf_counter() - start) / BLOCK})
    return pd.DataFrame(rows)


def reached(curve: np.ndarray, value: float) -> float:
    """Steps after which a curve is first as high as a value, with a line between its points; infinite if never."""
    above = np.flatnonzero(curve >= value)
    if not len(above):
        return float("inf")
    if above[0] == 0:
        return 0.0
    low, high = curve[above[0] - 1], curve[above[0]]
    return POINT * float(above[0] - 1 + (value - low) / (high - low))


def compared(rights: dict[str, np.ndarray], kinds: np.ndarray, seconds: dict[str, float]) -> tuple[pd.DataFrame, list]:
    """The curves of all arms; and of every arm steps, seconds and ratios to `plain`, with intervals."""
    total = np.eye(len(WAVES))[kinds]
    counts = bootstrap_counts(np.arange(len(kinds)), strata=kinds)
    whole = np.concatenate([np.ones((1, len(kinds)), counts.dtype), counts])
    curves = {}
    for arm, right in rights.items():  # (seed, point, subject): mean over seeds of the balanced accuracy
        per_kind = np.einsum("ds,ps,sk->dpk", whole, right.mean(0), total) / (whole @ total)[:, None]
        curves[arm] = per_kind.mean(-1)
    rows = []
    for arm, curve in curves.items():
        bounds = np.array([percentile_interval(curve[1:, point]) for point in range(curve.shape[1])])
        steps = POINT * np.arange(curve.shape[1])
        rows.append({"arm": arm, "step": steps, "seconds": steps * seconds[arm], "accuracy": curve[0]})
        rows[-1] |= {"low": bounds[:, 0], "high": bounds[:, 1], "seeds": len(rights[arm]), "subjects": len(kinds)}
    table = pd.concat([pd.DataFrame(row) for row in rows], ignore_index=True)
    goal = curves["plain"][:, -1]
    steps_needed = {arm: np.array(list(map(reached, curve, goal))) for arm, curve in curves.items()}
    claims = []
    for arm, needed in steps_needed.items():
        sooner = steps_needed["plain"] / np.maximum(needed, 1)
        speed = seconds["plain"] / seconds[arm]
        claims.append(
            {
                "arm": arm,
                "goal": goal[0],
                "steps": _number(needed[0]),
                "seconds_per_step": seconds[arm],
                "seconds": _number(needed[0] * seconds[arm]),
                "ratio_steps": _three(sooner),
                "ratio_seconds": _three(sooner * speed),
                "last": curves[arm][0, -1],
            }
        )
    return table, claims


def _number(value: float) -> float | None:
    """None where it is never reached."""
    return float(value) if np.isfinite(value) else None


def _three(values: np.ndarray) -> list[float]:
    """The value, and the 95 % interval of its draws."""
    return [float(values[0]), *(float(x) for x in np.percentile(values[1:], [2.5, 97.5], method="inverted_cdf"))]


def picture(table: pd.DataFrame, goal: float) -> bytes:
    """Accuracy against seconds of the two recipes, and of each thing alone."""
    with style():
        drawn = canvas(8.0, 3.4, synthetic=True)
        axes = drawn.subplots(1, 2, sharey=True)
        for arm, own in table.groupby("arm", sort=False):
            main = arm in ("plain", "this")
            colour = PALETTE[list(ARMS).index(str(arm)) % len(PALETTE)]
            if main:
                axes[0].fill_between(own["seconds"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
            axes[0 if main else 1].plot(own["seconds"], own["accuracy"], color=colour, label=str(arm))
        for side, title in zip(axes, ("Both recipes", "The plain one with one thing of this"), strict=True):
            side.axhline(goal, color="0.4", linestyle=":", linewidth=1)
            side.set(xlabel="Seconds of training, two cores", title=title)
            side.legend(loc="lower right", fontsize=8)
        axes[0].set_ylabel("k-NN accuracy (balanced)")
        axes[0].set_ylim(bottom=0.1)  # room for the legends
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for subjects, corpora and runs; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--subjects", type=int, default=400, help="3 of 10 are asked, the others trained on")
    parser.add_argument("--steps", type=int, default=400, help="the budget")
    parser.add_argument("--seeds", type=int, default=3, help="runs of `plain` and `this`; the other arms have one")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--part", choices=("quality", "times", "all"), default="all")
    options = parser.parse_args()
    for px in (TIGHT_PX, WIDE_PX):
        corpus = made_corpus(options.work, options.subjects, px)
    rights = {}
    if options.part != "times":
        for arm in options.arms:
            seeds = range(options.seeds if arm in ("plain", "this") else 1)
            rights[arm] = np.stack([quality(arm, options.work, options.steps, seed) for seed in seeds])
    times = options.work / "times.tsv"
    if options.part == "times" or (not times.is_file() and options.part == "all"):
        write_table(times, seconds_per_step(options.work))
    if options.part != "all":
        return
    measured = pd.read_csv(times, sep="\t")
    seconds = measured.groupby("arm")["seconds"].median().to_dict()
    table, claims = compared(rights, asked_of(corpus)[1], seconds)
    write_table(options.out.with_suffix(".tsv"), table)
    settings = {"subjects": options.subjects, "steps": options.steps, "k": K, "threads": torch.get_num_threads()}
    write_json(options.out.with_suffix(".json"), {"settings": settings, "arms": claims})
    print(pd.DataFrame(claims).to_string(index=False))
    if options.picture:
        write_bytes(options.picture, picture(table, claims[0]["goal"]))


if __name__ == "__main__":
    main()
