"""What part of a training step do the monitors take?

    OMP_NUM_THREADS=1 python benchmarks/monitor_cost.py --corpus CORPUS --out benchmarks/results/monitor_cost.json

A real run with a config of the package on a corpus of its size (`it_learns.py` and `pretraining_pays.py` make one),
with a clock around `look` and `health`. The k-NN probe is not in it: its share is its own time over `probe.every`
steps, and it is told beside. CPU only; on a GPU the shares differ.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from braindino.config import read_config
from braindino.corpus.shards import open_corpus
from braindino.pretraining import loop
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.config import PretrainConfig, ProbeConfig
from braindino.pretraining.ranks import Ranks
from braindino.record import write_json

CONFIG = Path(__file__).parents[1] / "src" / "braindino" / "configs" / "tiny_stage1.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    probe = ProbeConfig(every=options.steps, target="site", share=0.4)
    config = read_config(options.config, PretrainConfig)
    config = replace(config, corpus=options.corpus, steps=options.steps, exclude=(), probe=probe)
    spent = {name: clocked(name) for name in ("_step", "look", "health", "_probed")}
    corpus = open_corpus(options.corpus)
    batches = Batches(corpus, config, training_subjects(corpus, config))
    with tempfile.TemporaryDirectory() as run:
        loop.train(config, batches, Path(run), None, Ranks(), lambda *_: None)
    step, monitors = sum(spent["_step"]), sum(spent["look"]) + sum(spent["health"])
    found = {
        "config": options.config.name, "steps": options.steps, "threads": torch.get_num_threads(),
        "seconds_per_step": round(step / options.steps, 3), "monitors_share": round(monitors / step, 4),
        "probe_seconds": round(max(spent["_probed"]), 2),
    }  # fmt: skip
    print(json.dumps(found))
    if options.out:
        write_json(options.out, found)


def clocked(name: str) -> list[float]:
    """Seconds of each call of a function of the loop, from now on."""
    function, seconds = getattr(loop, name), []

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(loop, name, timed)
    return seconds


if __name__ == "__main__":
    main()
