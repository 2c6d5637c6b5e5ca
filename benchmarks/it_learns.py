"""Does it learn? k-NN on the frozen CLS token over training, where the truth is known.

    python benchmarks/it_learns.py --work W --out benchmarks/results/it_learns --picture docs/it_learns.png

Writes OUT.json (the claims), OUT.tsv (all numbers) and the picture. Resumable; less than 20 minutes on two free cores.

Subjects are made by `waves.py`: four kinds that differ in nothing but the length of the waves of a texture. The tiny
stage 1 trains on some; the others are asked of their k = 10 nearest among themselves, without their own slices (the
mean of their CLS tokens, cosine; majority). Beside it: the same network with random weights (its own start and three
more draws) and raw pixels (slices at 16 x 16, one after the other). Patch tokens are asked by `dense_probe.py`.

Accuracies are balanced; chance is 1/4. Intervals: 95 %, BCa bootstrap over the asked subjects, paired for differences.
A claim is shown where the whole interval lies above its margin of 0.10, which was fixed before the full run. The
corpus, k and the margin were chosen on short runs with other subjects.

What it can show: that the objective, optimiser and data path learn something that weights and pixels do not hold. What
it cannot: that features of patients' scans are good. Waves are an easy factor for a patch-wise network, raw pixels are
blind to it by construction, and intervals do not contain how much another training run would differ. The committed
numbers have percentile intervals, which this file made when it ran.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from waves import WAVES, asked_of, cls_of, made_corpus, tiny_run, told

from braindino.corpus.shards import Corpus
from braindino.model.vit import VisionTransformer
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
from braindino.stats.intervals import bca_interval, bootstrap_counts, jackknife

K = 10
RANDOM_DRAWS = 3
CURVE_POINTS = 8
MARGIN = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for subjects, corpora and runs; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--subjects", type=int, default=400, help="3 of 10 are asked")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    rows, claims = cls_part(options)
    table = pd.DataFrame(rows)
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


def compared(
    part: str, rights: Rights, total: np.ndarray, steps: dict[str, int], strata: np.ndarray | None = None
) -> tuple[list[dict[str, Any]], Callable[[str, str, float], dict[str, Any]]]:
    """A row per features; and a function that makes a claim of a difference, on the same draws of subjects."""
    subjects = np.arange(len(total))
    counts = bootstrap_counts(subjects, strata=strata)

    def accuracy(right: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean((weights @ right) / np.maximum(weights @ total, 1), axis=1))

    whole = {name: float(accuracy(right, np.ones((1, len(total))))[0]) for name, right in rights.items()}
    drawn = {name: accuracy(right, counts) for name, right in rights.items()}
    left = {name: jackknife(partial(accuracy, right), subjects)[0] for name, right in rights.items()}
    rows = []
    for name in rights:
        low, high = bca_interval(whole[name], drawn[name], left[name], strata)
        row = {"part": part, "features": name, "step": steps.get(name, -1), "accuracy": whole[name]}
        rows.append(row | {"low": low, "high": high, "subjects": len(total)})

    def claim(a: str, b: str, margin: float) -> dict[str, Any]:
        gain = paired_bootstrap(drawn[a], drawn[b], whole[a] - whole[b], left[a] - left[b], strata)
        found = {"claim": f"{a} above {b}", "gain": gain.value, "low": gain.low, "high": gain.high, "margin": margin}
        return found | {"shown": bool(gain.low > margin)}

    return rows, claim


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
    rows, claim = compared("cls", rights, total, steps, kinds)
    last = f"step {max(steps.values())}"
    others = ["step 0", *(f"random init {n}" for n in range(1, RANDOM_DRAWS + 1)), "raw pixels"]
    return rows, [claim(last, other, MARGIN) for other in others]


def start(config: PretrainConfig, seed: int) -> VisionTransformer:
    """The backbone as the seed draws it."""
    return Network(config, torch.Generator().manual_seed(seed)).backbone.eval()


def trained(config: PretrainConfig, corpus: Corpus, run: Path) -> Iterator[tuple[int, VisionTransformer]]:
    """The teacher at the start, at every checkpoint and at the end."""
    done = 0
    with progress("stage 1", config.steps) as advance:

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


def picture(table: pd.DataFrame) -> bytes:
    """CLS accuracy over the steps beside random weights and pixels."""
    with style():
        drawn = canvas(5.6, 3.2, synthetic=True)
        panel = drawn.subplots()
        curve = table[table["step"] >= 0].sort_values("step")
        panel.fill_between(curve["step"], curve["low"], curve["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        panel.plot(curve["step"], curve["accuracy"], color=PALETTE[0], marker="o", label="CLS token, stage 1")
        draws = table[table["features"].str.startswith("random")]
        panel.axhspan(draws["low"].min(), draws["high"].max(), color=PALETTE[1], alpha=0.12)
        panel.axhline(draws["accuracy"].mean(), color=PALETTE[1], linestyle="--", label="random weights, three draws")
        raw = table[table["features"] == "raw pixels"].iloc[0]
        panel.axhline(raw["accuracy"], color=PALETTE[2], linestyle=":", label="raw pixels")
        panel.set(xlabel="Step", ylabel="k-NN accuracy (balanced)", ylim=(0.0, 0.7))
        panel.set_title("Kind of texture, other subjects")
        panel.legend(loc="lower right", fontsize=8)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
