"""Does pretraining pay? Frozen pretrained features against random ones, on synthetic development subjects.

    python benchmarks/pretraining_pays.py --work /tmp/pays --out benchmarks/results/pretraining_pays.tsv

The demo's recipes are chosen here and never on the demo's own subjects, which are of another seed. One cohort is
pretrained on, a second one probed: repeated five-fold cross-validation by subject with the demo's own linear head (its
strength chosen on the training and a validation part of the other folds), at several numbers of training subjects.
Beside the pretrained encoder stand the same network with random weights (three draws), the histogram of the
normalised intensities (the cheapest image feature), and the trivial answer. A slice is summed up by its CLS token and
by the mean of its patch tokens. About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from braindino import catalog
from braindino.config import read_config
from braindino.heads import linear, prior
from braindino.pipeline.demo import COHORT, RECIPE
from braindino.pipeline.encode import load_encoder
from braindino.pipeline.prepare import prepare
from braindino.pipeline.pretrain import pretrain
from braindino.pipeline.synthesize import synthesize
from braindino.pretraining.config import PretrainConfig
from braindino.progress import progress
from braindino.record import write_table
from braindino.stats.comparisons import paired_bootstrap
from braindino.stats.intervals import bca_interval, bootstrap_counts, jackknife
from braindino.stats.metrics import METRICS
from braindino.synthesis.config import SynthesisConfig
from braindino.types import Case, Encoder, Pooling
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess

SEEDS = (1001, 1002)
"""Of the cohort that is pretrained on and of the one that is probed; the demo's is 0."""
CONFIGS = Path(__file__).parents[1] / "src" / "braindino" / "configs"
RANDOM_DRAWS = 3
REPEATS = 5
TRAIN_SUBJECTS = (30, 60, 120)
BASE = "random init 0, mean_patch"
QUESTIONS = {"brain_age": ("regression", "mae"), "diagnosis": ("classification", "roc_auc")}


def main() -> None:
    """Pretrain, probe, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts, corpus and runs; resumable")
    parser.add_argument("--stage1", type=Path, default=CONFIGS / "tiny_stage1.toml")
    parser.add_argument("--stage2", type=Path, default=CONFIGS / "tiny_stage2.toml")
    parser.add_argument("--seed", type=int, default=0, help="of the pretraining")
    parser.add_argument("--neighbours", type=int, default=0, help="slices on either side as channels (2.5-D)")
    parser.add_argument("--out", type=Path, required=True, help="TSV file")
    options = parser.parse_args()
    known, unseen = (synthesize(options.work / f"cohort-{s}", SynthesisConfig(**COHORT, seed=s)) for s in SEEDS)
    recipe = replace(RECIPE, neighbours=options.neighbours)
    deep = f"-{recipe.channels}channels" if recipe.neighbours else ""
    corpus = options.work / f"corpus{deep}"
    prepare([f"synthetic={known}"], corpus, recipe)
    runs = [options.work / f"stage{number}-{options.seed}{deep}" for number in (1, 2)]
    for run, file, initial in zip(runs, (options.stage1, options.stage2), (None, runs[0]), strict=True):
        config = read_config(file, PretrainConfig)
        model = replace(config.model, in_channels=recipe.channels)
        config = replace(config, corpus=corpus, initial=initial, seed=options.seed, model=model)
        pretrain(replace(config, exclude=()), run)
    cases = [case for case in catalog.load("cohorts", "synthetic").cases(unseen) if case.participant.get("diagnosis")]
    table = pd.DataFrame(list(rows(features(cases, runs), cases)))
    write_table(options.out, table)
    print(table.to_string(index=False, float_format="%.3f"))


def features(cases: list[Case], runs: list[Path]) -> dict[str, np.ndarray]:
    """Name to (case, feature): mean over the slices of the T1-weighted scan in both poolings, and the histogram."""
    encoders = {f"pretrained {run.name}": load_encoder("braindino", run) for run in runs}
    encoders |= {f"random init {n}": load_encoder("random_init", runs[0], seed=n) for n in range(RANDOM_DRAWS)}
    found = {"intensity histogram": np.stack([histogram(case) for case in cases])}
    for name, encoder in encoders.items():
        pooled = []
        with progress(name, len(cases)) as advance:
            for case in cases:
                pooled.append(pool(encoder, case))
                advance()
        found |= {f"{name}, {pooling}": np.stack([one[pooling] for one in pooled]) for pooling in get_args(Pooling)}
    return found


def pool(encoder: Encoder, case: Case) -> dict[Pooling, np.ndarray]:
    """Mean over the slices of the CLS tokens, and of the patch tokens."""
    tokens = encoder.tokens(read_case([scan for scan in case.scans if scan.contrast == "T1w"]), patches=True)
    return {"cls": tokens.cls.mean(0), "mean_patch": tokens.patch.mean((0, 1))}


def histogram(case: Case) -> np.ndarray:
    """Forty bins of the z-scored intensities of the brain, as shares."""
    prepared = preprocess(read_case([scan for scan in case.scans if scan.contrast == "T1w"]), RECIPE)
    return np.histogram(prepared.voxels[0][prepared.brain_mask], bins=40, range=(-3, 3), density=True)[0]


def rows(x: dict[str, np.ndarray], cases: list[Case]) -> Iterator[dict[str, Any]]:
    """One row per question, number of training subjects and features, compared with the first random draw.

    Intervals are over the probed subjects; how much another pretraining run would differ is not in them.
    """
    diagnosis = np.array([case.participant["diagnosis"] for case in cases])
    age = np.array([float(case.participant["age"]) for case in cases])
    x = {BASE: x[BASE], **x, "trivial answer": x[BASE]}
    for (question, (kind, metric)), size in itertools.product(QUESTIONS.items(), TRAIN_SUBJECTS):
        chosen = np.flatnonzero(diagnosis == "healthy") if kind == "regression" else np.arange(len(cases))
        y = (age if kind == "regression" else diagnosis)[chosen]
        target = y if kind == "regression" else (y == "healthy").astype(int)
        strata = None if kind == "regression" else target
        counts = bootstrap_counts(chosen, strata=strata)
        base: tuple[float, np.ndarray, np.ndarray] | None = None
        for name, vectors in x.items():
            head = prior if name == "trivial answer" else linear
            said = [out_of_fold(head, vectors[chosen], y, kind, size, repeat) for repeat in range(REPEATS)]
            weighed = partial(over_repeats, metric, target, said)
            drawn, (left, _) = weighed(counts), jackknife(weighed, chosen)
            value = float(np.mean([METRICS[metric].value(target, one) for one in said]))
            base = base or (value, drawn, left)
            low, high = bca_interval(value, drawn, left, strata)
            gain = paired_bootstrap(drawn, base[1], value - base[0], left - base[2], strata)
            yield {
                **{"task": question, "training_subjects": size, "features": name, "metric": metric},
                **{"value": value, "low": low, "high": high, "subjects": len(chosen)},
                **{"minus_random": gain.value, "minus_random_low": gain.low, "minus_random_high": gain.high},
            }


def over_repeats(metric: str, target: np.ndarray, said: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The metric under each row of weights, mean over the repeats."""
    return np.asarray(np.mean([METRICS[metric].function(target, one, weights) for one in said], axis=0))


def out_of_fold(head: Any, x: np.ndarray, y: np.ndarray, kind: str, size: int, seed: int) -> np.ndarray:
    """Prediction of each subject by a head that saw `size` others, and `size` / 4 more for validation."""
    strata = np.searchsorted(np.quantile(y, [0.25, 0.5, 0.75]), y) if kind == "regression" else y
    said: dict[int, np.ndarray] = {}
    rng = np.random.default_rng(seed)
    for rest, held_out in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, strata):
        rest = rng.permutation(rest)
        train, validation = rest[:size], rest[size : size + size // 4]
        if len(validation) < size // 4:
            raise SystemExit(f"{len(x)} subjects are too few for {size} training subjects in five folds")
        fitted = head.fit(x[train], y[train], (x[validation], y[validation]), kind=kind, seed=seed)
        said |= dict(zip(held_out.tolist(), fitted.predict(x[held_out]), strict=True))
    outputs = np.stack([said[n] for n in range(len(x))])
    return outputs[:, 0] if kind == "regression" else outputs


if __name__ == "__main__":
    main()
