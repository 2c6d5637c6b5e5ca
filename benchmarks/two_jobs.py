"""A training step beside another job on the same cores, as libgomp waits by itself and as this package has it wait.

    python benchmarks/two_jobs.py --out benchmarks/results/two_jobs.tsv

A job is a process with as many threads as there are cores, which takes forward and backward passes of a small vision
transformer (16 slices of 64 px) for four seconds; its time is the median of its steps by the clock. One job runs alone,
then two at once (the slower counts), with GOMP_SPINCOUNT at libgomp's default and at what `import braindino` sets; arms
in turn. "over fair" is the time beside another job over twice the time alone: 1 were two jobs that share the cores.
Medians and ranges over the rounds. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

SPINS = {"libgomp's default": "300000", "braindino's": "2000"}
SECONDS, ROUNDS = 4.0, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(step_seconds())
        return
    found: dict[tuple[str, int], list[float]] = {(name, jobs): [] for name in SPINS for jobs in (1, 2)}
    for _ in range(ROUNDS):
        for name, jobs in found:
            found[name, jobs].append(together(jobs, SPINS[name]))
    rows = []
    for (name, jobs), seconds in found.items():
        fair = jobs * np.median(found[name, 1])
        row = {"waiting": name, "jobs": jobs, "step_s": np.median(seconds), "least": min(seconds), "most": max(seconds)}
        rows.append(row | {"over_fair": np.median(seconds) / fair, "cores": os.cpu_count()})
    table = pd.DataFrame(rows).round(3)
    print(table.to_string(index=False))
    if options.out:
        from braindino.record import write_table

        write_table(options.out, table)


def together(jobs: int, spins: str) -> float:
    """Seconds of a step of the slowest of so many jobs at once."""
    command = [sys.executable, __file__, "--job"]
    environment = os.environ | {"GOMP_SPINCOUNT": spins}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(jobs)]
    return max(float(job.communicate()[0]) for job in running)


def step_seconds() -> float:
    """Median of the steps that fit into the time, the first left out."""
    import torch

    from braindino.model.config import ViTConfig
    from braindino.model.vit import VisionTransformer

    torch.set_num_threads(os.cpu_count() or 1)
    config = ViTConfig(dim=96, depth=4, heads=3, patch_size=4, layer_scale=1.0)
    model = VisionTransformer(config, torch.Generator().manual_seed(0)).train()
    images, steps, begun = torch.randn(16, 1, 64, 64), [], time.perf_counter()
    while len(steps) < 3 or time.perf_counter() - begun < SECONDS:
        start = time.perf_counter()
        model(images).patch.square().sum().backward()
        steps.append(time.perf_counter() - start)
    return float(np.median(steps[1:]))


if __name__ == "__main__":
    main()
