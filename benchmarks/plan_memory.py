"""Does `pretrain --plan` know the memory of a step? Predicted against measured peaks of whole processes on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/plan_memory.py --out benchmarks/results/plan_memory.tsv

Each run is a fresh process: torch is warmed up on a tiny run, then student, teacher and Gram teacher are made and two
steps are done (forward, backward, AdamW, EMA). Measured is the rise of the resident set from before the networks to its
peak; glibc is told to give large blocks back at once. Linux only, about two minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from braindino.model.config import preset
from braindino.pretraining.config import CropConfig, HeadConfig, LossConfig, PretrainConfig
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.memory import rank_memory
from braindino.pretraining.size import work
from braindino.record import write_table

HEAD = HeadConfig(prototypes=4096)
CROPS = CropConfig(global_px=112, local_px=48)
START = PretrainConfig(
    Path("corpus"), 2, 8, Path("stage1"), model=preset("small"), crops=CROPS, dino_head=HEAD, ibot_head=HEAD
)
GRAM = replace(START, loss=LossConfig(gram=1.5), crops=replace(CROPS, gram_px=224, local_count=0))
SWIGLU = replace(START, model=preset("small", ffn="swiglu", mlp_ratio=6.0, drop_path=0.2))
RUNS = {
    "small": (START, False),
    "small, checkpointing": (replace(START, batch_size=16), True),
    "small, Gram teacher at twice the side": (GRAM, False),
    "small, SwiGLU, drop path": (SWIGLU, False),
    "tiny, 65536 prototypes": (
        replace(START, model=preset("tiny"), dino_head=HeadConfig(), ibot_head=HeadConfig()),
        False,
    ),
    "base, 224 px": (
        replace(START, batch_size=4, model=preset("base"), crops=CropConfig(local_count=2)),
        False,
    ),
}
WARM = replace(START, batch_size=4, model=preset("tiny", depth=1), crops=CropConfig(global_px=48, local_px=32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="TSV file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(*RUNS[options.one]))
        return
    rows = []
    for name, (config, checkpointing) in RUNS.items():
        command = [sys.executable, __file__, "--one", name]
        settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        measured = float(subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout)
        step = work(config, config.batch_size, config.crops.shares[0])
        memory = rank_memory(config, Hardware(precision="fp32", checkpointing=checkpointing), step, step)
        numbers = (sum(memory.state.values()) / 1e6, memory.peak / 1e6, measured / 1e6, memory.peak / measured)
        rows.append((name, *numbers))
        print(f"{name:<40} predicted {numbers[1]:7.0f} MB, measured {numbers[2]:7.0f} MB, ratio {numbers[3]:.3f}")
    if options.out:
        columns = ["run", "state_mb", "predicted_mb", "measured_mb", "predicted_over_measured"]
        write_table(options.out, pd.DataFrame(rows, columns=columns))


def measure(config: PretrainConfig, checkpointing: bool) -> int:
    """Bytes by which the resident set rises in two steps."""
    train(WARM, checkpointing)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    train(config, checkpointing)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def train(config: PretrainConfig, checkpointing: bool, mark: Callable[[], None] = lambda: None, steps: int = 2) -> None:
    """Steps on noise, as `pretraining.loop` does them; `mark` is called before the first and after each."""
    import torch

    from braindino.model.vit import VisionTransformer
    from braindino.pretraining.masks import sample_masks
    from braindino.pretraining.networks import Batch, Network, update_teacher
    from braindino.pretraining.ranks import Ranks
    from braindino.pretraining.step import Temperatures, student_loss, teacher_targets

    (global_px, local_px, gram_px, _), samples = config.crops.shares[0], config.batch_size
    side = global_px // config.model.patch_size
    masks = torch.from_numpy(sample_masks(np.random.default_rng(0), 2 * samples, (side, side)))
    counts = (2, config.crops.local_count, 2)
    sides = (global_px, local_px, gram_px or global_px)
    batch = Batch(*(torch.randn(n * samples, 1, px, px) for n, px in zip(counts, sides, strict=True)), masks)
    student, teacher = Network(config).train(), Network(config).eval().requires_grad_(False)
    gram = VisionTransformer(config.model).eval().requires_grad_(False) if config.loss.gram > 0 else None
    student.backbone.checkpoint_activations = checkpointing
    optimiser = torch.optim.AdamW(student.parameters(), fused=True)
    mark()
    for _ in range(steps):
        optimiser.zero_grad()
        (targets,) = teacher_targets(teacher, [batch], config.loss, 0.07, Ranks())
        crops = [batch.global_crops] + ([batch.local_crops] if len(batch.local_crops) else [])
        seen = student(crops, [batch.patch_masks, None][: len(crops)], batch.patch_masks)
        loss = student_loss(seen, targets, batch, config.loss, Temperatures(0.07, 0.1), Ranks(), gram)["total"]
        loss.backward()
        del seen, targets, loss
        optimiser.step()
        update_teacher(teacher, student, 0.99)
        mark()


if __name__ == "__main__":
    main()
