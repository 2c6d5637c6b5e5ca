"""Slices per second that one core cuts into crops: this multi-crop, torchvision on PIL images and on v2 tensors.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch torchvision numpy
    OMP_NUM_THREADS=1 python benchmarks/augmentation.py --peers /tmp/peers/bin/python --out benchmarks/results

One sample is 2 crops of 224 px and 8 of 96 px of a slice of 224 px, with the scales and probabilities of stage 1; all
resampling is antialiased (area and cubic here, bicubic there). "crops" are crops and flips alone; "all" adds every
change of intensity, for the peers those of DINO that a grey picture can have (brightness and contrast, blur,
solarisation); "RGB" is what DINO's code does to an RGB picture (saturation, hue and greyscale too). PIL pictures are
8-bit; tensors are float32. Slices are synthetic: a disc of noise of the area of a brain.

Every arm is a process of one thread that measures its own CPU time when it is told to; arms take turns, so that other
work on the machine meets them all; one arm stands there twice (A/A). "Calls of OpenCV alone" counts no time but that
inside its functions: what would be left if Python and numpy cost nothing. Ratios are taken within a round: median,
with a 95 % bootstrap interval over the rounds. Then what `pretrain --plan --gpus 8` needs at 40 % of 8 H100.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

CONFIGS = Path(__file__).parent.parent / "configs"
SIDE, BACKGROUND, SLICES = 224, -3.0, 64
OURS, READ, AGAIN = "this, all", "this, all, read from a corpus", "this, all, again (A/A)"
ANEW = "this, all, noise drawn anew"
CALLS = "this, all, calls of OpenCV alone"
ARMS = {
    "this, crops": 40,
    OURS: 40,
    AGAIN: 40,
    READ: 40,
    ANEW: 40,
    CALLS: 40,
    "torchvision PIL, crops": 8,
    "torchvision PIL, all": 8,
    "torchvision PIL, RGB": 4,
    "torchvision v2, crops": 8,
    "torchvision v2, all": 8,
    "torchvision v2, RGB": 4,
    "stage 2": 5,
}
"""Arms and slices per round."""
PAIRS = (
    (OURS, AGAIN),
    (OURS, ANEW),
    *((f"this, {kind}", f"torchvision {peer}, {kind}") for kind in ("crops", "all") for peer in ("PIL", "v2")),
    *((one, f"torchvision {peer}, RGB") for one in (OURS, READ, CALLS) for peer in ("PIL", "v2")),
)


def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    brain = np.hypot(rows / 1.2, columns) < 0.32 * SIDE
    return np.where(brain, rng.normal(size=(SLICES, 1, *brain.shape)), BACKGROUND).astype(np.float32)


def ours(name: str, folder: Path) -> Callable[[int], object]:
    """What makes the crops of slice n."""
    import cv2

    from braindino.config import read_config
    from braindino.corpus.shards import open_corpus
    from braindino.pretraining import intensities
    from braindino.pretraining.config import PretrainConfig
    from braindino.pretraining.crops import multi_crop

    cv2.setNumThreads(1)
    config = read_config(CONFIGS / ("stage2.toml" if name == "stage 2" else "stage1.toml"), PretrainConfig)
    images, crops = pictures(), config.crops
    if name == "this, crops":
        off = {"gamma": 0.0, "bias_field": 0.0, "noise": 0.0, "invert": 0.0, "ghosting": 0.0, "low_resolution": 0.0}
        crops = replace(crops, blur=(0.0, 0.0, 0.0), **off)
    if name == ANEW:
        intensities._noise = lambda side, rng: rng.standard_normal((side, side), np.float32)
    if name == READ:
        read = open_corpus(folder / "corpus").read
        return lambda n: multi_crop(read(n % SLICES), BACKGROUND, crops, np.random.default_rng([0, n]))
    rows = [
        replace(crops, global_px=row[0], local_px=row[1], gram_px=row[2], sizes=()) for row in crops.shares
    ]  # taken in turn; `measured` weighs them
    return lambda n: multi_crop(
        images[n % SLICES], BACKGROUND, rows[n % len(rows)], np.random.default_rng([0, n]), gram=name == "stage 2"
    )


def peers(name: str) -> Callable[[int], object]:
    """The transforms that DINO's code calls, in its order."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    library = torch.library.Library("torchvision", "DEF")
    with contextlib.suppress(RuntimeError):  # compiled for CUDA it lacks these beside a torch without; unused here
        for operator in ("nms", "qnms"):
            if "+cpu" in torch.__version__:
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import transforms as v1
    from torchvision.transforms import v2

    t, colour = (v1 if "PIL" in name else v2), "RGB" in name
    cubic = v1.InterpolationMode.BICUBIC

    def one(side: int, scale: tuple[float, float], blur: float, solarise: float) -> Callable[[object], object]:
        steps: list = [t.RandomResizedCrop(side, scale, interpolation=cubic, antialias=True), t.RandomHorizontalFlip()]
        if not name.endswith("crops"):
            jitter = t.ColorJitter(0.4, 0.4, 0.2, 0.1) if colour else t.ColorJitter(0.4, 0.4)
            steps += [t.RandomApply([jitter], 0.8), *([t.RandomGrayscale(0.2)] if colour else [])]
            steps += [t.RandomApply([t.GaussianBlur(9, (0.1, 2.0))], blur)]
            steps += [t.RandomSolarize(128 if t is v1 else 0.5, solarise)]
        mean = (0.5,) * (3 if colour else 1)
        return t.Compose([*steps, *([t.ToTensor()] if t is v1 else []), t.Normalize(mean, mean)])

    large, small = (0.32, 1.0), (0.05, 0.32)
    crops = [one(224, large, 0.0, 0.0), one(224, large, 0.9, 0.2), *[one(96, small, 0.5, 0.0)] * 8]
    scaled = np.clip((pictures() - BACKGROUND) / 6, 0, 1)
    if t is v1:
        mode = "RGB" if colour else "L"
        images: list = [Image.fromarray(np.uint8(255 * image[0])).convert(mode) for image in scaled]
    else:
        images = [torch.from_numpy(image.repeat(3, 0) if colour else image) for image in scaled]
    return lambda n: [crop(images[n % SLICES]) for crop in crops]


def serve(name: str, folder: Path) -> None:
    """Seconds of CPU per slice, as often as a line on stdin asks for it."""
    make, number = peers(name) if "torchvision" in name else ours(name, folder), 0
    weights = np.ones(1)
    inside = timed_calls() if name == CALLS else None
    if name == "stage 2":
        from braindino.config import read_config
        from braindino.pretraining.config import PretrainConfig

        weights = np.array([row[3] for row in read_config(CONFIGS / "stage2.toml", PretrainConfig).crops.shares])
    for line in sys.stdin:
        spent = np.zeros(int(line))
        for n in range(int(line)):
            start, before = time.process_time(), sum(inside or ())
            make(number + n)
            spent[n] = time.process_time() - start if inside is None else sum(inside) - before
        number += int(line)
        per_size = spent.reshape(-1, len(weights)).mean(0)
        print("seconds", float(per_size @ weights / weights.sum()), flush=True)


def timed_calls() -> list[float]:
    """Wrap every function of OpenCV that the crops call; the list takes the seconds of each call, by the clock."""
    import cv2

    from braindino.pretraining import crops, intensities

    seconds: list[float] = []

    def timed(function: Callable) -> Callable:
        def call(*given, **named):
            start = time.perf_counter()
            found = function(*given, **named)
            seconds.append(time.perf_counter() - start)
            return found

        return call

    source = Path(crops.__file__).read_text() + Path(intensities.__file__).read_text()
    for name in set(re.findall(r"cv2\.(\w+)\(", source)):
        setattr(cv2, name, timed(getattr(cv2, name)))
    return seconds


class Arm:
    def __init__(self, name: str, python: str, folder: Path):
        command = [python, __file__, "--serve", name, "--folder", str(folder)]
        self.name = name
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def rate(self) -> float:
        """Slices per second of CPU."""
        self.process.stdin.write(f"{ARMS[self.name]}\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("seconds"):
            if not line:
                raise SystemExit(f"{self.name} ended; see above")
        return 1 / float(line.split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


def write_corpus(folder: Path) -> None:
    from braindino.corpus.shards import merge_parts, pack, write_shard
    from braindino.record import write_record

    values, rows = pack(pictures(), BACKGROUND)
    names = ("cohort", "subject", "session", "site", "contrast", "axes", "voxel_hash")
    scan = dict.fromkeys(names, "x") | {"slices": len(rows)}
    write_shard(folder, 0, values, rows, np.zeros((1, 1, 1, 1), np.uint8), [scan], [])
    merge_parts(folder, 1)
    files = [path.name for pattern in ("*.npy", "*.tsv") for path in folder.glob(pattern)]
    write_record(folder, "prepare", {"recipe": {"size_px": SIDE, "background": BACKGROUND}}, files=files)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median with a 95 % percentile bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="Python with torchvision; without it only this multi-crop is measured")
    parser.add_argument("--out", type=Path, help="folder for augmentation.tsv and crop_cores.tsv")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return
    chosen = [name for name in ARMS if options.peers or "torchvision" not in name]
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write_corpus(Path(folder) / "corpus")
        pythons = {name: options.peers if "torchvision" in name else sys.executable for name in chosen}
        arms = {name: stack.enter_context(Arm(name, pythons[name], Path(folder))) for name in chosen}
        for arm in arms.values():
            arm.rate()
        for turn in range(options.rounds):
            for name in chosen[turn % len(chosen) :] + chosen[: turn % len(chosen)]:
                rates[name].append(arms[name].rate())
    tell(rates, options.out)


def tell(rates: dict[str, list[float]], out: Path | None) -> None:
    """Print the tables and write them down."""
    import pandas as pd

    from braindino.config import read_config
    from braindino.pretraining.config import PretrainConfig
    from braindino.pretraining.hardware import Hardware
    from braindino.pretraining.plan import DAY_SECONDS, plan
    from braindino.record import write_table

    found = [("slices/s", name, "", *interval(np.array(values))) for name, values in rates.items()]
    for one, other in PAIRS:
        if other in rates:
            found.append(("ratio", one, other, *interval(np.array(rates[one]) / np.array(rates[other]))))
    table = pd.DataFrame(found, columns=["what", "arm", "over", "median", "low", "high"])
    cores = []
    for stage in (1, 2):
        config = read_config(CONFIGS / f"stage{stage}.toml", PretrainConfig)
        needed = config.steps * config.batch_size / (plan(config, Hardware(gpus=8)).days * DAY_SECONDS)
        rate = float(np.median(rates[READ if stage == 1 else "stage 2"]))
        cores.append((f"stage {stage}", rate, needed, needed / rate))
    needs = pd.DataFrame(cores, columns=["run", "slices_per_core", "needed", "cores"])
    print(table.to_string(index=False, float_format="{:.2f}".format))
    print(needs.to_string(index=False, float_format="{:.0f}".format))
    if out:
        write_table(out / "augmentation.tsv", table)
        write_table(out / "crop_cores.tsv", needs)


if __name__ == "__main__":
    main()
