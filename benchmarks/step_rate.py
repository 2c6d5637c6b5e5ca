"""One optimiser step: this engine against a minimal one and lightly-train's, as a share of the rate of matrix products.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install lightly-train torch==2.13.0+cpu torchvision==0.28.0
    OMP_NUM_THREADS=1 python benchmarks/step_rate.py --model tiny --batch 32 --lightly /tmp/peer/bin/python
    OMP_NUM_THREADS=1 python benchmarks/step_rate.py --model small --batch 16 --lightly /tmp/peer/bin/python

The step is `pretraining.loop._step` with everything that it does (teacher targets, loss, gradients, clipping, AdamW,
EMA, monitors), on noise: 2 global crops of 112 px and 8 local ones of 48 px, 4096 prototypes, heads of 2048. Every
contender is a process of its own with one thread and gets the same crops and patch masks; they take turns, in a new
order every round. Times are CPU seconds of the process. "ratio" is the time of a contender over that of the engine in
the same round: median, and 95 % interval of the median by bootstrap over rounds; above 1 the engine is faster. "share"
is the FLOPs of the step (`pretraining.flops`) over its time, over the rate of a product of 2048 x 2048 matrices right
before and after it, by torch's BLAS; "share_onednn" is that over the rate of oneDNN's product, which linear layers of
the engine take and which is quicker on CPUs of AMD. `--before SRC` adds the engine of another source tree. "Where the
time goes" is a profile of one step of the engine: self time of every operation, by kind. Results:
benchmarks/results/step_rate_MODEL.tsv and step_profile_MODEL.tsv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from step_peers import SIDE, serve
from torch.profiler import ProfilerActivity, profile, record_function

from braindino.model.config import preset
from braindino.pretraining import loop
from braindino.pretraining import step as step_room
from braindino.pretraining.config import CropConfig, HeadConfig, PretrainConfig
from braindino.pretraining.flops import step_flops
from braindino.pretraining.masks import sample_masks
from braindino.pretraining.networks import Batch
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.schedules import schedules_of
from braindino.pretraining.setup import set_up
from braindino.pretraining.size import work
from braindino.record import write_table

HERE = Path(__file__).parent
HEAD = HeadConfig(prototypes=4096)
WARM = 300
"""Step at which the schedules are read: prototypes move, temperature and rate have risen."""
KINDS = {
    "matrix products": (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mkldnn_convolution",
        "convolution_backward",
        "_linear_pointwise",
    ),
    "attention kernels": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "GELU": ("gelu", "gelu_backward"),
    "LayerNorm": ("native_layer_norm", "native_layer_norm_backward"),
    "copies, fills": ("copy_", "cat", "fill_", "stack", "index", "_index_put_impl_", "zero_", "clone"),
}
LABELS = {
    "Optimizer.step#AdamW.step": "AdamW",
    "Optimizer.zero_grad#AdamW.zero_grad": "AdamW",
    "clip_grad_norm_": "clipping",
    "update_teacher": "EMA",
    "sinkhorn_knopp": "Sinkhorn-Knopp",
    "health": "monitors",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", choices=["tiny", "small"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lightly", help="Python of an environment with lightly-train")
    parser.add_argument("--before", help="another `src` of the project, to compare with")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = PretrainConfig(
        Path("corpus"), 1000, options.batch, model=preset(options.model), dino_head=HEAD, ibot_head=HEAD,
        crops=CropConfig(global_px=112, local_px=48),
    )  # fmt: skip
    if options.serve:
        serve(engine_step(config, options.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_batch(config, Path(folder))
        peer = [str(HERE / "step_peers.py"), "floor", folder]
        own = [sys.executable, __file__, "--model", options.model, "--batch", str(options.batch), "--serve", folder]
        commands = {"engine": own, "engine again (A/A)": own, "minimal": [sys.executable, *peer]}
        if options.before:
            commands["engine before"] = own
        if options.lightly:
            commands["lightly-train"] = [options.lightly, peer[0], "lightly", folder]
        found = rounds(commands, options.rounds, options.before)
        profiled = where_time_goes(engine_step(config, Path(folder)))
    flops = sum(part.total for part in step_flops(config, work(config, options.batch, config.crops.shares[0])))
    table = summary(found, flops, options.batch)
    print(table.to_string(index=False), profiled.to_string(index=False), sep="\n\n")
    write_table(HERE / "results" / f"step_rate_{options.model}.tsv", table)
    write_table(HERE / "results" / f"step_profile_{options.model}.tsv", profiled)


def write_batch(config: PretrainConfig, folder: Path) -> None:
    """Crops and patch masks of a step, and the sizes of the networks, for all contenders."""
    rng, samples, crops = np.random.default_rng(0), config.batch_size, config.crops
    side = crops.global_px // config.model.patch_size
    counts = {"global_crops": (2, crops.global_px), "local_crops": (crops.local_count, crops.local_px)}
    noise = {
        name: rng.normal(size=(count * samples, 1, px, px)).astype(np.float32) for name, (count, px) in counts.items()
    }
    np.savez(folder / "batch.npz", **noise, patch_masks=sample_masks(rng, 2 * samples, (side, side)))
    model, head = config.model, config.dino_head
    setting = {"dim": model.dim, "depth": model.depth, "heads": model.heads, "hidden": head.hidden}
    setting |= {"bottleneck": head.bottleneck, "prototypes": head.prototypes}
    (folder / "setting.json").write_text(json.dumps(setting))


def engine_step(config: PretrainConfig, folder: Path) -> Callable[[], float]:
    """One step of the engine; returns its loss."""
    with np.load(folder / "batch.npz") as file:
        tensors = {name: torch.from_numpy(file[name]) for name in file.files}
    batch = Batch(**tensors, gram_crops=torch.empty(0, *tensors["global_crops"].shape[1:]))
    trainee, schedules = set_up(config, None, Ranks()), schedules_of(config)
    return lambda: loop._step(trainee, [batch], config, schedules, WARM, Ranks())["total"]


def rounds(commands: dict[str, list[str]], count: int, before: str | None) -> dict[str, np.ndarray]:
    """(round, [CPU s of the step, of a product by BLAS, by oneDNN, loss]) of every contender; two steps warm up."""
    found: dict[str, list[list[float]]] = {name: [] for name in commands}
    with ExitStack() as stack:
        running = {}
        for name, command in commands.items():
            paths = {"PYTHONPATH": before} if name == "engine before" and before else {}
            running[name] = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | paths
                )
            )
            stack.callback(running[name].stdin.close)
        for turn in range(-1, count + 1):
            shift = turn % len(running)
            for name in list(running)[shift:] + list(running)[:shift]:
                answer = ask(running[name], name)
                if turn > 0:
                    found[name].append(answer)
                print(turn, name, *(f"{number:.3f}" for number in answer), file=sys.stderr)
    return {name: np.array(answers) for name, answers in found.items()}


def ask(process: subprocess.Popen, name: str) -> list[float]:
    process.stdin.write("step\n")
    process.stdin.flush()
    while not (line := process.stdout.readline()).startswith("["):
        if not line:
            raise SystemExit(f"{name} ended; see above")
    return json.loads(line)


def summary(found: dict[str, np.ndarray], flops: float, batch: int) -> pd.DataFrame:
    """A row per contender."""
    rng, engine, rows = np.random.default_rng(0), found["engine"][:, 0], []
    for name, values in found.items():
        seconds, blas, onednn = values[:, 0], values[:, 1], values[:, 2]
        ratios = seconds / engine
        drawn = np.median(rng.choice(ratios, (10_000, len(ratios))), axis=1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        rates = [2 * SIDE**3 / product for product in (blas, onednn)]
        row = (batch / np.median(seconds), np.median(ratios), low, high)
        told = (*(np.median(rate) / 1e9 for rate in rates), *(np.median(flops / seconds / rate) for rate in rates))
        rows.append((name, *row, *told))
    measured = ["blas_gflops", "onednn_gflops", "share", "share_onednn"]
    columns = ["contender", "samples_per_s", "ratio", "low", "high", *measured]
    return pd.DataFrame(rows, columns=columns).round(3)


def where_time_goes(step: Callable[[], float]) -> pd.DataFrame:
    """Self time of one step by kind of operation, % of the step."""
    for room, name in ((loop, "update_teacher"), (loop, "health"), (step_room, "sinkhorn_knopp")):
        setattr(room, name, labelled(name, getattr(room, name)))
    torch.nn.utils.clip_grad_norm_ = labelled("clip_grad_norm_", torch.nn.utils.clip_grad_norm_)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    kinds = {f"{room}::{name}": kind for kind, names in KINDS.items() for name in names for room in ("aten", "mkldnn")}
    times: dict[str, float] = {}
    for event in seen.events():
        kind, parent = kinds.get(event.name, "other elementwise, sums, calls"), event
        while parent is not None:
            kind = LABELS.get(parent.name, kind)
            parent = parent.cpu_parent
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(times.values())
    rows = sorted(((kind, 100 * spent / total) for kind, spent in times.items()), key=lambda row: -row[1])
    return pd.DataFrame(rows, columns=["kind", "percent"]).round(1)


def labelled(name: str, function: Callable) -> Callable:
    """The same function, seen by the profiler under its name."""

    def call(*given, **named):
        with record_function(name):
            return function(*given, **named)

    return call


if __name__ == "__main__":
    main()
