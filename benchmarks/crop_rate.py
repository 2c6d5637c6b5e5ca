"""How many slices per second does one core cut into crops, and how many cores does a planned run need?

    OMP_NUM_THREADS=1 python benchmarks/crop_rate.py --out benchmarks/results/crop_rate.tsv

Slices are synthetic (a disc of noise of the area of a brain, 224 px); every crop is cut, resized and distorted as in
training, for every size of a stage. "Needed" is the rate of `pretrain --plan --gpus 8` at 40 % of 8 H100. CPU time of
one thread, so that other work on the machine counts little; the median of the rounds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from braindino.config import read_config
from braindino.pretraining.config import CropConfig, PretrainConfig
from braindino.pretraining.crops import multi_crop
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.plan import DAY_SECONDS, plan
from braindino.record import write_table
from braindino.volume.recipe import Recipe

CONFIGS = Path(__file__).parent.parent / "configs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="TSV file")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for stage in (1, 2):
        config = read_config(CONFIGS / f"stage{stage}.toml", PretrainConfig)
        cost = 0.0
        for global_px, local_px, gram_px, share in config.crops.shares:
            crops = replace(config.crops, global_px=global_px, local_px=local_px, gram_px=gram_px, sizes=())
            cost += share * float(np.median([seconds(crops, turn) for turn in range(options.rounds)]))
        needed = config.steps * config.batch_size / (plan(config, Hardware(gpus=8)).days * DAY_SECONDS)
        rows.append((f"stage {stage}", 1 / cost, needed, needed * cost))
        print(f"stage {stage}: {1 / cost:.0f} slices/s per core; {needed:.0f} needed: {needed * cost:.0f} cores")
    if options.out:
        write_table(options.out, pd.DataFrame(rows, columns=["run", "slices_per_core", "needed", "cores"]))


def seconds(crops: CropConfig, seed: int, slices: int = 12) -> float:
    """CPU seconds per slice."""
    rng, side, background = np.random.default_rng(seed), Recipe().size_px, float(Recipe().background)
    rows, columns = np.mgrid[:side, :side] - side / 2
    brain = np.hypot(rows / 1.2, columns) < 0.32 * side
    images = [np.where(brain, rng.normal(size=brain.shape), background).astype(np.float32) for _ in range(slices)]
    start = time.process_time()
    for image in images:
        multi_crop(image, background, crops, rng)
    return (time.process_time() - start) / slices


if __name__ == "__main__":
    main()
