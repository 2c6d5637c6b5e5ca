"""How the cost of a training step grows: CPU time and memory against batch, crops, prototypes and resolution.

    OMP_NUM_THREADS=1 python benchmarks/cost_growth.py

One thing at a time is changed around a base point (ViT-Ti, 8 slices, 2 global crops of 112 px, 8 local ones of 48 px,
4096 prototypes), and stage 2 (4 blocks of ViT-Ti, Gram teacher at 1.5 times the side, no local crops, 2 slices, no
KoLeo) is taken to 1024 px with and without `compute.checkpoint_activations`. Every point is a fresh process on one
thread. Memory is the rise of the resident set from before the networks to its peak, with glibc as it comes
(`plan_memory.py` makes it give blocks back at once, which costs time). Time is the CPU time of a step, the lesser of
the second and the third; in stage 2 of the only step. The plan's memory is that of `pretrain --plan`, its time is FLOPs
over one rate, that of the base point. `--series` measures one series and keeps the others of the table. Writes
benchmarks/results/cost_growth.tsv and docs/cost_growth.png; `--plot` draws again what stands in the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
from plan_memory import WARM, train

from braindino.model.config import preset
from braindino.pretraining.config import CropConfig, HeadConfig, LossConfig, PretrainConfig
from braindino.pretraining.flops import step_flops
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.memory import rank_memory
from braindino.pretraining.size import work
from braindino.record import write_table

TABLE = Path(__file__).parent / "results" / "cost_growth.tsv"
FIGURE = Path(__file__).parent.parent / "docs" / "cost_growth.png"
HEAD = HeadConfig(prototypes=4096)
CROPS = CropConfig(global_px=112, local_px=48)
BASE = PretrainConfig(
    Path("corpus"), 2, 8, Path("stage1"), model=preset("tiny"), crops=CROPS, dino_head=HEAD, ibot_head=HEAD
)
STAGE2 = replace(BASE, batch_size=2, model=preset("tiny", depth=4), loss=LossConfig(gram=1.5, koleo=0.0))
SERIES = {"batch": "slices per step", "global_px": "side of global crops, px", "prototypes": "prototypes per head"}
SERIES |= {"local_count": "local crops per slice", "stage 2": "side of global crops, px (stage 2)"}


def points() -> list[tuple[str, int, bool, PretrainConfig]]:
    """Series, value, whether activations are checkpointed, and the run."""
    runs = [("batch", n, False, replace(BASE, batch_size=n)) for n in (4, 8, 16, 32)]
    runs += [("global_px", px, False, replace(BASE, crops=replace(CROPS, global_px=px))) for px in (64, 112, 224, 320)]
    for count in (1024, 16384, 65536):
        head = HeadConfig(prototypes=count)
        runs.append(("prototypes", count, False, replace(BASE, dino_head=head, ibot_head=head)))
    runs += [("local_count", n, False, replace(BASE, crops=replace(CROPS, local_count=n))) for n in (0, 4, 16)]
    for px in (512, 768, 1024):
        crops = CropConfig(global_px=px, local_count=0, gram_px=px * 3 // 2)
        runs += [("stage 2", px, again, replace(STAGE2, crops=crops)) for again in (False, True)]
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES))
    parser.add_argument("--plot", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(*points()[options.one][2:])))
        return
    if not options.plot:
        write_table(TABLE, table(options.series))
    draw(pd.read_csv(TABLE, sep="\t"))


def table(wanted: list[str]) -> pd.DataFrame:
    """A row per point: measured and planned; of series that are not wanted, what the table holds."""
    rows = []
    for number, (series, value, again, config) in enumerate(points()):
        if series not in wanted:
            continue
        command = [sys.executable, __file__, "--one", str(number)]
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds, peak = json.loads(told)
        step = work(config, config.batch_size, config.crops.shares[0])
        flops = sum(part.total for part in step_flops(config, step, checkpointing=again))
        memory = rank_memory(config, Hardware(precision="fp32", checkpointing=again), step, step)
        rows.append((series, value, int(again), seconds, flops / 1e9, peak / 1e6, memory.peak / 1e6))
        print(*rows[-1])
    columns = ["series", "value", "checkpointing", "cpu_s", "gflop", "measured_mb", "planned_mb"]
    found = pd.DataFrame(rows, columns=columns)
    if TABLE.is_file():
        known = pd.read_csv(TABLE, sep="\t")[columns]
        found = pd.concat([known[~known.series.isin(wanted)], found])
    base = found[(found.series == "batch") & (found.value == BASE.batch_size)].iloc[0]
    found["planned_s"] = found.gflop * base.cpu_s / base.gflop
    return found.round({"cpu_s": 3, "planned_s": 3, "gflop": 1, "measured_mb": 0, "planned_mb": 0})


def measure(checkpointing: bool, config: PretrainConfig) -> tuple[float, int]:
    """CPU seconds of a step, and bytes by which the resident set rises."""
    import torch

    torch.set_num_threads(1)
    train(WARM, checkpointing)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    marks: list[float] = []
    steps = 3 if config.loss.gram == 0 else 1
    train(config, checkpointing, lambda: marks.append(time.process_time()), steps=steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return min(later - sooner for sooner, later in pairwise(marks[-3:])), peak


def draw(found: pd.DataFrame) -> None:
    """Time above, memory below, a column per series; measured as points, planned as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    shown = {series: label for series, label in SERIES.items() if series in set(found.series)}
    figure, axes = plt.subplots(2, len(shown), figsize=(2.8 * len(shown), 5), sharex="col", layout="constrained")
    for column, (series, label) in zip(axes.T, shown.items(), strict=True):
        for again, colour in ((0, "tab:blue"), (1, "tab:orange")):
            rows = found[(found.series == series) & (found.checkpointing == again)]
            name = "" if series != "stage 2" else ", checkpointing" if again else ", none"
            for axis, measured, planned, unit in (
                (column[0], rows.cpu_s, rows.planned_s, 1),
                (column[1], rows.measured_mb, rows.planned_mb, 1000),
            ):
                if len(rows):
                    axis.plot(rows.value, planned / unit, color=colour, linewidth=1, label="plan" + name)
                    axis.plot(rows.value, measured / unit, "o", color=colour, label="measured" + name)
        for axis in column:
            axis.set_ylim(0, 1.3 * axis.get_ylim()[1])
        if series == "prototypes":
            column[1].set_xscale("log", base=2)
        ticks = sorted(set(found[found.series == series].value))
        column[1].set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("step, CPU seconds (one thread)")
    axes[1, 0].set_ylabel("peak memory, GB")
    axes[0, 0].legend(frameon=False)
    axes[0, -1].legend(frameon=False)
    figure.savefig(FIGURE, dpi=130)


if __name__ == "__main__":
    main()
