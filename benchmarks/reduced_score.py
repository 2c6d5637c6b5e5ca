"""What the reduced ways to encode save, and what they cost: time, cosine to the exact CLS tokens, a task's score.

    OMP_NUM_THREADS=1 python benchmarks/reduced_score.py --weights RUN --work W

Synthetic development subjects (`braindino synthesize`, seed 1002, never the demo's 0; made in --work, or --cohort) are
encoded by every arm in turn, ten cases at a time, the first arm another each time; CPU seconds. Then, arm by arm, a
linear head is fitted with `fit` on the arm's own features and asked with `predict`, in five folds by subject (three to
train, one to choose, one to answer), so that every subject answers once: `brain_age` on the healthy ones, `diagnosis`
on all. `score` tells metric and paired bootstrap of the difference from exact over subjects. `predict` refuses the
head of exact on features of another digest; what it would say of them is computed too (the rule is gone round here),
since it tells whether the rule is needed.

Intervals are over the asked subjects; how much other weights would differ is not in them. `exact, other folds` is a
yardstick: how far apart two sound evaluations of one and the same features are. Speed depends on the size of the
model: that of a ViT-S at 224 px is in `encode_speed.py`.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold

from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score
from braindino.pipeline.synthesize import synthesize
from braindino.record import write_table
from braindino.synthesis.config import SynthesisConfig
from braindino.tasks import thirds

RESULT = Path(__file__).parent / "results" / "reduced_score.tsv"
SEED, FOLDS, CHUNK = 1002, 5, 10
TASKS = ("brain_age", "diagnosis")
ENDS = {"mean": "mean", "least": "min"}


def encoders(weights):
    """Arm to encoder."""
    exact = load_encoder("braindino", weights)
    half = replace(exact.recipe, slices=exact.recipe.slices // 2)
    return {
        "exact": exact,
        "bf16": replace(exact, variant="bf16"),
        "half of the slices": replace(exact, recipe=half),
        "bf16, half of the slices": replace(exact, variant="bf16", recipe=half),
        "brain": replace(exact, variant="brain"),
    }


def joined(parts):
    """Features of several lots of cases as one."""
    return replace(
        parts[0],
        values=np.concatenate([part.values for part in parts]),
        position_mm=np.concatenate([part.position_mm for part in parts]),
        cases=pd.concat([part.cases for part in parts], ignore_index=True),
    )


def encoded(cases, arms):
    """Arm to features, and arm to CPU seconds per lot of cases."""
    parts, seconds = {name: [] for name in arms}, {name: [] for name in arms}
    for number, start in enumerate(range(0, len(cases), CHUNK)):
        for name in np.roll(list(arms), number):
            began = time.process_time()
            parts[name].append(encode(cases[start : start + CHUNK], arms[name], ("T1w",)))
            seconds[name].append(time.process_time() - began)
    return {name: joined(own) for name, own in parts.items()}, {name: np.array(own) for name, own in seconds.items()}


def folds(task, seed):
    """The task with five splits, in which every subject answers once."""
    if task.kind == "regression":
        kinds = thirds({case.subject: float(case.participant["age"]) for case in task.cases})
    else:
        kinds = {case.subject: case.participant["diagnosis"] for case in task.cases}
    subjects = np.array(sorted(kinds))
    deal = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    part = {
        subject: number
        for number, (_, asked) in enumerate(deal.split(subjects, [kinds[s] for s in subjects]))
        for subject in subjects[asked]
    }
    for number in range(FOLDS):
        sides = {number: "test", (number + 1) % FOLDS: "validation"}
        yield replace(task, split={subject: sides.get(own, "train") for subject, own in part.items()})


def answers(task, learned, asked, name, seed=0):
    """The predictions table of one arm over all folds; heads are fitted on `learned` and answer on `asked`."""
    known = replace(asked, encoder_digest=learned.encoder_digest, recipe=learned.recipe)
    tables = [predict(fold, known, fit(fold, learned)).table for fold in folds(task, seed)]
    return pd.concat(tables, ignore_index=True).assign(encoder=name)


def cosine(one, other):
    """Of each vector."""
    one, other = (np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in (one, other))
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def likeness(found, exact):
    """Cosine of views (where they are the same slices) and of the mean over views, mean and least.

    `centred`: of the mean over views after that of all cases is taken off, which is what cases differ by.
    """
    same = found.values.shape == exact.values.shape
    views = cosine(found.values, exact.values) if same else np.array([np.nan])
    one, other = (features.values.astype(np.float64).mean(1) for features in (found, exact))
    kinds = {"view": views, "mean": cosine(one, other), "centred": cosine(one - other.mean(0), other - other.mean(0))}
    return {f"{kind}_cosine_{what}": getattr(x, end)() for kind, x in kinds.items() for what, end in ENDS.items()}


def compared(tables):
    """Score of the first table minus that of the second, with interval; the first one's score with its own."""
    found = score(tables)
    row, own = found.comparisons.iloc[0], found.metrics
    name = tables[0]["encoder"].iloc[0]
    sign = 1 if row["a"].startswith(f"{name}/") else -1
    ends = sorted(sign * row[end] + 0.0 for end in ("low", "high"))
    own = own[(own["encoder"] == name) & (own["metric"] == row["metric"])].iloc[0]
    return {
        **{"metric": row["metric"], "subjects": own["subjects"], "value": own["value"]},
        **{"low": own["low"], "high": own["high"], "minus_exact": sign * row["difference"] + 0.0},
        **{"minus_exact_low": ends[0], "minus_exact_high": ends[1]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a pretraining run or an encoder.safetensors")
    parser.add_argument("--work", type=Path, required=True, help="folder for the cohort; resumable")
    parser.add_argument("--cohort", type=Path, help="one that `braindino synthesize` made, instead of a new one")
    parser.add_argument("--healthy", type=int, default=260)
    parser.add_argument("--dementia", type=int, default=140)
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: times are of one thread")
    torch.set_num_threads(1)
    sizes = SynthesisConfig(healthy=options.healthy, dementia=options.dementia, glioma=0, seed=SEED)
    root = options.cohort or synthesize(options.work / "cohort", sizes)
    # as cohort "bids": by another seed they are other subjects than those of the demo that have the same names
    tasks = [load_task(name, root, "bids") for name in TASKS]
    cases = sorted({case.name: case for task in tasks for case in task.cases}.values(), key=lambda case: case.name)
    arms = encoders(options.weights)
    features, seconds = encoded(cases, arms)
    rows = []
    for task in tasks:
        base = answers(task, features["exact"], features["exact"], "exact")
        others = answers(task, features["exact"], features["exact"], "other folds", seed=1)
        rows.append({"task": task.name, "arm": "exact, other folds", "head": "own", **compared([others, base])})
        for name, found in features.items():
            gain = seconds["exact"] / seconds[name]
            speed = {"gain": np.median(gain), "gain_low": gain.min(), "gain_high": gain.max()}
            for head, learned in (("own", found), ("of exact", features["exact"])):
                if name == "exact" and head == "of exact":
                    continue
                answer = answers(task, learned, found, name if name != "exact" else "exact again")
                about = {"task": task.name, "arm": name, "head": head}
                rows.append({**about, **speed, **likeness(found, features["exact"]), **compared([answer, base])})
    table = pd.DataFrame(rows)
    write_table(RESULT, table)
    print(table.to_string(index=False, float_format="%.4f"))
    print(
        f"{len(cases)} cases; median CPU s per case:", {n: round(np.median(s) / CHUNK, 3) for n, s in seconds.items()}
    )


if __name__ == "__main__":
    main()
