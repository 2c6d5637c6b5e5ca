"""Slices per second, by the clock, of whole batches of stage 1 by 0, 1 and 2 worker processes.

    OMP_NUM_THREADS=1 python benchmarks/crop_workers.py --out benchmarks/results/crop_workers.tsv

Read from a corpus, cut, stacked and handed over to the training process, which does nothing else: the rate at which it
could be fed. Numbers of workers take turns; medians over the rounds, and the ratio to one worker within a round with a
95 % bootstrap interval. What else runs on the machine counts here; `cores` is how many were free on average.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from augmentation import CONFIGS, SLICES, interval, write_corpus

from braindino.config import read_config
from braindino.corpus.shards import open_corpus
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.config import PretrainConfig
from braindino.record import write_table

STEPS, FIRST = 10, 2
"""Steps of a round, and how many of them pass before the clock starts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="TSV file")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {0: [], 1: [], 2: []}
    free: dict[int, list[float]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        for _ in range(options.rounds):
            for workers in rates:
                rate, cores = measured(Path(folder), workers)
                rates[workers].append(rate)
                free[workers].append(cores)
    rows = []
    for workers, found in rates.items():
        ratios = interval(np.array(found) / np.array(rates[1]))
        rows.append((workers, float(np.median(found)), *ratios, float(np.median(free[workers]))))
    table = pd.DataFrame(rows, columns=["workers", "slices_per_second", "over_one", "low", "high", "cores"])
    print(table.to_string(index=False, float_format="{:.2f}".format))
    if options.out:
        write_table(options.out, table)


def measured(folder: Path, workers: int) -> tuple[float, float]:
    """Slices per second, and idle cores before it started plus those of this process: what it could have had."""
    config = read_config(CONFIGS / "stage1.toml", PretrainConfig)
    compute = replace(config.compute, workers=workers)
    corpus = open_corpus(folder)
    batches = Batches(
        corpus, replace(config, batch_size=SLICES, steps=STEPS, compute=compute), training_subjects(corpus, config)
    )
    coming = batches(0)
    for _ in range(FIRST):
        next(coming)
    idle, start = _idle(), time.perf_counter()
    slices = sum(passes[0].samples for passes in coming)
    seconds = time.perf_counter() - start
    return slices / seconds, (_idle() - idle) / seconds


def _idle() -> float:
    """Idle seconds of all cores since the machine started."""
    return float(Path("/proc/uptime").read_text().split()[1])


if __name__ == "__main__":
    main()
