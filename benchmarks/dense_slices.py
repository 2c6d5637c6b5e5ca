"""What it costs that dense heads learn from a temporary file, and how large that file is at the size of a real cohort.

    OMP_NUM_THREADS=1 python benchmarks/dense_slices.py

Random tokens as ViT-B gives them of four contrasts of 224 pixels (196 patches of 4 x 768 numbers, 3 regions of 16 x 16
pixels for each patch), 240 slices: steps of the `decoder` head from the file and from a list in memory, in turn, the
least CPU time of each; and a batch of the convolutional decoders drawn from the file. The sizes are those of BraTS2021:
813 training and validation cases of 140 slices. Both go to benchmarks/results/dense_slices.json too.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

from braindino.fitting.pictures import draw
from braindino.fitting.scratch import Slices
from braindino.heads import decoder

RESULT = Path(__file__).parent / "results" / "dense_slices.json"
SLICES, PATCHES, FEATURES, OUTPUTS, CONTRASTS, SIDE = 240, 196, 4 * 768, 3 * 16 * 16, 4, 224
COHORT = 813 * 140
STEPS, ROUNDS = 10, 4


class Memory:
    """The same slices in memory."""

    def __init__(self, pairs):
        self.pairs = pairs
        self.lesion = np.array([n for n, (_, labels) in enumerate(pairs) if labels.any()])

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, number):
        return self.pairs[number]


def seconds(work):
    """CPU time."""
    before = time.process_time()
    work()
    return time.process_time() - before


def decoder_steps(rng):
    """Seconds of a step from memory and from the file; bytes of a slice."""
    values = rng.standard_normal((SLICES, PATCHES, FEATURES), dtype=np.float32).astype(np.float16)
    labels = rng.random((SLICES, PATCHES, OUTPUTS), dtype=np.float32) > 0.97
    with Slices("decoder") as slices:
        slices.add(values, labels)
        memory = Memory(list(zip(values, labels, strict=True)))
        mean, scale = decoder._standard(slices)
        found = {"memory": [], "file": []}
        for _ in range(ROUNDS):
            for name, where in (("memory", memory), ("file", slices)):
                found[name].append(seconds(lambda w=where: decoder._train(w, mean, scale, 1e-4, 0, STEPS)))
    return {name: min(times) / STEPS for name, times in found.items()}, (values.nbytes + labels.nbytes) / SLICES


def pictures_drawn(rng):
    """Seconds of a batch of 12 pictures from the file; bytes of a slice."""
    values = rng.standard_normal((SLICES, CONTRASTS, SIDE, SIDE), dtype=np.float32).astype(np.float16)
    labels = (rng.random((SLICES, SIDE, SIDE), dtype=np.float32) > 0.5).astype(np.int16)
    with Slices("conv_decoder") as slices:
        slices.add(values, labels)
        return min(seconds(lambda: draw(slices, 12, rng)) for _ in range(20)), (values.nbytes + labels.nbytes) / SLICES


def main():
    """Measure, print, write."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    step, tokens = decoder_steps(rng)
    batch, pictures = pictures_drawn(rng)
    result = {
        "decoder_step_from_memory_s": round(step["memory"], 3),
        "decoder_step_from_file_s": round(step["file"], 3),
        "pictures_batch_from_file_s": round(batch, 4),
        "brats2021_decoder_gb": round(tokens * COHORT / 1e9, 1),
        "brats2021_pictures_gb": round(pictures * COHORT / 1e9, 1),
    }
    print(json.dumps(result, indent=2))
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
