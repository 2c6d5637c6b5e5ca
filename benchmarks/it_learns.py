"""Does it learn? k-NN on the frozen CLS token over training, and tissue from patch tokens, where the truth is known.

    python benchmarks/it_learns.py --work W --out benchmarks/results/it_learns --picture docs/it_learns.png

Writes OUT.json (the claims), OUT.tsv (all numbers) and the picture. Resumable; about 20 minutes on two free cores.

1. **CLS, stage 1.** Subjects are made by `waves.py`: four kinds that differ in nothing but the length of the waves of a
   texture. The tiny stage 1 trains on some; the others are asked of their k = 10 nearest among
   themselves, without their own slices (the mean of their CLS tokens, cosine; majority). Beside it: the same network
   with random weights (its own start and three more draws) and raw pixels (slices at 16 x 16, one after the other).
2. **Patch tokens, stage 2.** On a synthetic cohort (`braindino synthesize`, development seeds 1001 and 1002) the tiny
   stage 1 and the tiny stage 2 are trained; the patches of other subjects get the tissue (CSF, grey, white) that fills
   most of them, from the generator, by k = 10 nearest patches of half of these subjects; the other half is asked.

All accuracies are balanced; chance is 1/4 and 1/3. Intervals: 95 %, bootstrap over the asked subjects, paired for
differences. A claim is shown where the whole interval lies above its margin, which was fixed before the full run: 0.10
for CLS, 0 for patches. The corpus of part 1, k and margins were chosen on short runs with other subjects.

What it can show: that the objective, optimiser and data path learn something that weights and pixels do not hold. What
it cannot: that features of patients' scans are good. Waves are an easy factor for a patch-wise network, raw pixels are
blind to it by construction, intervals do not contain how much another training run would differ, and stage 2 has seen
more steps than stage 1, so a gain would not be the Gram anchor's alone. Tissue is nearly told by intensity, which
random weights pass on and which pretraining learns to look past: there random weights are a hard opponent. The Gram
anchor mends patch features that decay over hundreds of thousands of steps, so a tiny stage 2 may well show nothing.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from waves import WAVES, asked_of, cls_of, made_corpus, tiny_run, told

from braindino.config import read_config
from braindino.corpus.shards import Corpus
from braindino.model.vit import VisionTransformer
from braindino.pipeline.demo import RECIPE
from braindino.pipeline.encode import load_encoder
from braindino.pipeline.prepare import prepare
from braindino.pipeline.pretrain import pretrain
from braindino.pipeline.synthesize import synthesize
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.checkpoint import WHOLE
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.loop import train
from braindino.pretraining.networks import Network
from braindino.pretraining.ranks import Ranks
from braindino.progress import progress
from braindino.record import write_bytes, write_json, write_table
from braindino.reporting.figures import PALETTE, canvas, style
from braindino.stats.comparisons import paired_bootstrap
from braindino.stats.intervals import bootstrap_counts, percentile_interval
from braindino.stats.representation import knn_classify
from braindino.synthesis.config import SynthesisConfig
from braindino.synthesis.effects import Effects
from braindino.synthesis.subject import make_subject
from braindino.types import Encoder, Volume
from braindino.volume.preprocess import to_slices

CONFIGS = Path(__file__).parents[1] / "src" / "braindino" / "configs"
K = 10
RANDOM_DRAWS = 3
CURVE_POINTS = 8
CLS_MARGIN, PATCH_MARGIN = 0.10, 0.0
TISSUES = ("CSF", "grey", "white")
BANK, ASKED_PATCHES = 8000, 400
"""Patches that are remembered, and asked of each subject."""
SEEDS = (1001, 1002)
"""Of the subjects that are pretrained on and of those that are probed; the demo's is 0."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for subjects, corpora and runs; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--subjects", type=int, default=400, help="made for part 1; 3 of 10 are asked")
    parser.add_argument("--steps", type=int, default=400, help="of part 1")
    parser.add_argument("--cohort", type=int, default=80, help="healthy subjects to pretrain on in part 2")
    parser.add_argument("--asked", type=int, default=40, help="subjects of the probe of part 2")
    parser.add_argument("--stage1", type=Path, default=CONFIGS / "tiny_stage1.toml", help="of part 2")
    parser.add_argument("--stage2", type=Path, default=CONFIGS / "tiny_stage2.toml", help="of part 2")
    parser.add_argument("--stage-steps", type=int, nargs=2, help="of part 2; default: those of the two files")
    options = parser.parse_args()
    tables, claims = [], []
    for rows, said in (cls_part(options), patch_part(options)):
        tables.append(rows)
        claims += said
    table = pd.DataFrame([row for rows in tables for row in rows])
    write_table(options.out.with_suffix(".tsv"), table)
    settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    write_json(options.out.with_suffix(".json"), {"settings": settings, "k": K, "claims": claims})
    print(table.to_string(index=False, float_format="%.3f"))
    for claim in claims:
        print(f"{'shown' if claim['shown'] else 'NOT SHOWN'}: {claim}")
    if options.picture:
        write_bytes(options.picture, picture(table))


Rights = dict[str, np.ndarray]
"""Features to the rightly told answers of each asked subject, by class (subject, class)."""


def compared(part: str, rights: Rights, total: np.ndarray, steps: dict[str, int]) -> tuple[list[dict[str, Any]], Any]:
    """A row per features; and a function that makes a claim of a difference, on the same draws of subjects."""
    strata = total.argmax(1) if part == "cls" else None
    counts = bootstrap_counts(np.arange(len(total)), strata=strata)

    def drawn(right: np.ndarray) -> np.ndarray:
        return np.mean((counts @ right) / np.maximum(counts @ total, 1), axis=1)

    def value(right: np.ndarray) -> float:
        return float(np.mean(right.sum(0) / np.maximum(total.sum(0), 1)))

    rows = []
    for name, right in rights.items():
        low, high = percentile_interval(drawn(right))
        row = {"part": part, "features": name, "step": steps.get(name, -1), "accuracy": value(right)}
        rows.append(row | {"low": low, "high": high, "subjects": len(total)})

    def claim(a: str, b: str, margin: float) -> dict[str, Any]:
        gain = paired_bootstrap(drawn(rights[a]), drawn(rights[b]), value(rights[a]) - value(rights[b]))
        found = {"claim": f"{a} above {b}", "gain": gain.value, "low": gain.low, "high": gain.high, "margin": margin}
        return found | {"shown": bool(gain.low > margin)}

    return rows, claim


# Part 1: CLS


def cls_part(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """k-NN accuracy of the kind of subject, over the steps of stage 1."""
    corpus = made_corpus(options.work / "made", options.subjects)
    asked, kinds = asked_of(corpus)
    config = tiny_run(corpus, asked, options.steps)
    compute = replace(config.compute, checkpoint_every=max(1, options.steps // CURVE_POINTS))
    config = replace(config, compute=compute)
    features = {"raw pixels": pixels(corpus, asked)}
    steps = {}
    for draw in range(1, RANDOM_DRAWS + 1):
        features[f"random init {draw}"] = cls_of(start(config, draw), corpus, asked)
    for step, network in trained(config, corpus, options.work / "waves"):
        name = f"step {step}"
        features[name], steps[name] = cls_of(network, corpus, asked), step
    total = np.eye(len(WAVES))[kinds]
    rights = {name: total * told(x, kinds, K)[:, None] for name, x in features.items()}
    rows, claim = compared("cls", rights, total, steps)
    last = f"step {max(steps.values())}"
    others = ["step 0", *(f"random init {n}" for n in range(1, RANDOM_DRAWS + 1)), "raw pixels"]
    return rows, [claim(last, other, CLS_MARGIN) for other in others]


def start(config: PretrainConfig, seed: int) -> VisionTransformer:
    """The backbone as the seed draws it."""
    return Network(config, torch.Generator().manual_seed(seed)).backbone.eval()


def trained(config: PretrainConfig, corpus: Corpus, run: Path) -> Iterator[tuple[int, VisionTransformer]]:
    """The teacher at the start, at every checkpoint and at the end."""
    done = 0
    with progress("stage 1 of part 1", config.steps) as advance:

        def keep(count: int, note: str = "") -> None:
            nonlocal done
            done += count
            state, kept = run / "checkpoints" / f"{done:07d}" / WHOLE, run / "kept" / f"{done:07d}.safetensors"
            if state.is_file() and not kept.is_file():
                write_bytes(kept, state.read_bytes())
            advance(count, note)

        batches = Batches(corpus, config, training_subjects(corpus, config))
        train(config, batches, run, None, Ranks(), keep)
    yield 0, start(config, config.seed)
    for path in sorted((run / "kept").iterdir()):
        network, prefix = VisionTransformer(config.model), "teacher.backbone."
        weights = load_file(path)
        network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        yield int(path.stem), network.eval()


def pixels(corpus: Corpus, subjects: np.ndarray) -> np.ndarray:
    """Slices at 16 x 16, one after the other."""

    def small(number: int) -> np.ndarray:
        return cv2.resize(corpus.read(int(number))[0], (16, 16), interpolation=cv2.INTER_AREA).ravel()

    of_subject = corpus.slices_of_subject
    return np.stack([np.concatenate([small(n) for n in of_subject[name]]) for name in subjects]).astype(float)


# Part 2: patch tokens


def patch_part(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """k-NN accuracy of the tissue of patches: random weights, stage 1, stage 2."""
    settings = SynthesisConfig(healthy=options.cohort, dementia=0, glioma=0, seed=SEEDS[0])
    cohort = synthesize(options.work / "cohort", settings)
    prepare([f"synthetic={cohort}"], options.work / "corpus", RECIPE)
    runs = [options.work / f"stage{number}" for number in (1, 2)]
    files = (options.stage1, options.stage2)
    for number, (run, file, initial) in enumerate(zip(runs, files, (None, runs[0]), strict=True)):
        config = read_config(file, PretrainConfig)
        steps = options.stage_steps[number] if options.stage_steps else config.steps
        pretrain(replace(config, corpus=options.work / "corpus", initial=initial, exclude=(), steps=steps), run)
    encoders = {"random init": load_encoder("random_init", runs[0], seed=1)}
    encoders |= {f"stage {n}": load_encoder("braindino", run) for n, run in enumerate(runs, start=1)}
    patches = [tissue_patches(encoders, number) for number in range(options.asked)]
    known, asked = patches[::2], patches[1::2]
    total = np.stack([np.bincount(labels, minlength=len(TISSUES)) for _, labels in asked])
    rights = {}
    for name in encoders:
        bank = np.concatenate([tokens[name] for tokens, _ in known])
        labels = np.concatenate([labels for _, labels in known])
        kept = np.random.default_rng(0).permutation(len(bank))[:BANK]
        answers = [knn_classify(bank[kept], labels[kept], tokens[name], K) for tokens, _ in asked]
        right = [np.bincount(own[own == a], minlength=len(TISSUES)) for a, (_, own) in zip(answers, asked, strict=True)]
        rights[name] = np.stack(right)
    rows, claim = compared("patch", rights, total, {})
    return rows, [claim("stage 1", "random init", PATCH_MARGIN), claim("stage 2", "stage 1", PATCH_MARGIN)]


def tissue_patches(encoders: dict[str, Encoder], number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Patch tokens of a subject by every encoder, and the tissue that fills most of each; of patches in the brain."""
    subject = make_subject(f"sub-healthy{number:03d}", "healthy", SEEDS[1], 2.0, None, Effects())
    tissue = np.where(subject.brain_mask, 1 + subject.fractions[:3].argmax(0), 0).astype(np.int16)
    image = np.asarray(subject.images["T1w"])[None]
    volume = Volume(image, ("T1w",), subject.affine, brain_mask=subject.brain_mask, label_map=tissue)
    tokens = {name: encoder.tokens(volume, patches=True) for name, encoder in encoders.items()}
    first = tokens["stage 1"]
    labels, side = to_slices(first.prepared.label_map[None])[:, 0], first.grid[0]
    size = labels.shape[1] // side
    blocks = labels.reshape(-1, side, size, side, size).swapaxes(2, 3).reshape(-1, size * size)
    shares = (blocks[..., None] == np.arange(1, 1 + len(TISSUES))).mean(1)
    inside = np.flatnonzero(shares.sum(1) > 0.5)
    inside = np.random.default_rng(number).permutation(inside)[:ASKED_PATCHES]
    found = {name: one.patch.reshape(len(blocks), -1)[inside].astype(float) for name, one in tokens.items()}
    return found, shares[inside].argmax(1)


def picture(table: pd.DataFrame) -> bytes:
    """CLS accuracy over the steps beside random weights and pixels; patch accuracy by stage."""
    with style():
        drawn = canvas(8.0, 3.2, synthetic=True)
        left, right = drawn.subplots(1, 2, width_ratios=(2, 1))
        cls, patch = (table[table["part"] == part] for part in ("cls", "patch"))
        curve = cls[cls["step"] >= 0].sort_values("step")
        left.fill_between(curve["step"], curve["low"], curve["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        left.plot(curve["step"], curve["accuracy"], color=PALETTE[0], marker="o", label="CLS token, stage 1")
        draws = cls[cls["features"].str.startswith("random")]
        left.axhspan(draws["low"].min(), draws["high"].max(), color=PALETTE[1], alpha=0.12)
        left.axhline(draws["accuracy"].mean(), color=PALETTE[1], linestyle="--", label="random weights, three draws")
        raw = cls[cls["features"] == "raw pixels"].iloc[0]
        left.axhline(raw["accuracy"], color=PALETTE[2], linestyle=":", label="raw pixels")
        left.set(xlabel="Step", ylabel="k-NN accuracy (balanced)", title="Kind of texture, other subjects")
        left.legend(loc="upper left", fontsize=8)
        span = np.abs(patch[["low", "high"]].to_numpy().T - patch["accuracy"].to_numpy())
        right.errorbar(range(len(patch)), patch["accuracy"], yerr=span, fmt="o", color=PALETTE[0], capsize=3)
        right.set_xticks(range(len(patch)), patch["features"])
        right.margins(x=0.2)
        right.set_title("Tissue of a patch")
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
