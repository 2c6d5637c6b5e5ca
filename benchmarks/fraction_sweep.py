"""A sweep over fractions of the training set on cached features, as the paper's data-efficiency curves need it.

    OMP_NUM_THREADS=1 python benchmarks/fraction_sweep.py

1000 subjects x 128 views x 768 numbers, float16, written to disk as `encode` does and read as `fit` does; a linear head
per fraction (6) and draw (5) through `fit`, settings chosen on validation, and `predict` on the test subjects. The
features are noise with a planted direction of age and of two classes. Printed: seconds of each kind of task and the
largest memory of the process above what it had before; both go to benchmarks/results/fraction_sweep.json too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from braindino.pipeline.encode import read_features, write_features
from braindino.pipeline.fit import fit
from braindino.pipeline.predict import predict
from braindino.tasks import DRAWS, FRACTIONS
from braindino.types import Case, Features, Task

RESULT = Path(__file__).parent / "results" / "fraction_sweep.json"
SUBJECTS, VIEWS, DIM = 1000, 128, 768


def subjects(rng):
    """Cases with an age and a diagnosis."""
    ages, sick = rng.uniform(20, 80, SUBJECTS), rng.random(SUBJECTS) < 0.5
    return tuple(
        Case(f"s{n:04d}", (), participant={"age": float(ages[n]), "diagnosis": "sick" if sick[n] else "well"})
        for n in range(SUBJECTS)
    )


def plant(folder):
    """Their features, on disk."""
    rng = np.random.default_rng(0)
    cases = subjects(rng)
    axes = rng.standard_normal((2, DIM))
    values = np.empty((SUBJECTS, VIEWS, DIM), np.float16)
    for n in range(SUBJECTS):
        age, sick = cases[n].participant["age"], cases[n].participant["diagnosis"] == "sick"
        mean = (age - 50) / 20 * axes[0] * 0.1 + (sick - 0.5) * axes[1] * 0.1 + 0.5 * rng.standard_normal(DIM)
        values[n] = mean + rng.standard_normal((VIEWS, DIM))
    table = pd.DataFrame([(c.name, c.subject, "", "", "ok", "") for c in cases])
    table.columns = ["case", "subject", "session", "site", "status", "missing"]
    position = np.tile(np.arange(VIEWS, dtype=np.float32), (SUBJECTS, 1))
    write_features(Features(values, position, table, "planted", "0" * 64, "r", ("T1w",) * VIEWS), folder)


def task_of(kind, cases):
    """The question, with its 50/15/35 % split."""
    split = {
        c.subject: "train" if n % 20 < 10 else "validation" if n % 20 < 13 else "test" for n, c in enumerate(cases)
    }
    target, metric, classes = {
        "regression": ("age", "mae", ()),
        "classification": ("diagnosis", "roc_auc", ("sick", "well")),
    }[kind]
    return Task(kind, kind, "planted", ("T1w",), (target,), "", metric, "planted", cases, split, classes)


def peak():
    """Largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1")
    found = {"subjects": SUBJECTS, "views": VIEWS, "dim": DIM, "fractions": FRACTIONS, "draws": DRAWS}
    with tempfile.TemporaryDirectory() as place:
        if (child := os.fork()) == 0:  # so that making the features does not count as memory of the sweep
            plant(Path(place))
            os._exit(0)
        os.waitpid(child, 0)
        cases = subjects(np.random.default_rng(0))
        for kind in ("regression", "classification"):
            before, wall, cpu = peak(), time.perf_counter(), time.process_time()
            task, features = task_of(kind, cases), read_features(Path(place))
            heads = 0
            for fraction in FRACTIONS:
                for draw in range(DRAWS):
                    predict(task, features, fit(task, features, fraction=fraction, seed=draw))
                    heads += 1
            found[kind] = {
                "heads": heads,
                "cpu_s": round(time.process_time() - cpu, 1),
                "wall_s": round(time.perf_counter() - wall, 1),
                "memory_mb": round(peak() - before),
            }
            print(kind, found[kind], flush=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
