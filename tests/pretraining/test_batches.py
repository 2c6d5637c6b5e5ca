"""Batches made by processes: the same bytes in the same order, errors as they are, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from braindino.corpus.shards import open_corpus, pack, write_shard
from braindino.model.config import ViTConfig
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.config import ComputeConfig, CropConfig, LossConfig, PretrainConfig
from corpora import commit_corpus

SIDE, BACKGROUND = 48, -3.0


def write_corpus(folder):
    """Six subjects with five slices each."""
    rng = np.random.default_rng(0)
    pictures = np.full((30, 1, SIDE, SIDE), BACKGROUND, np.float32)
    pictures[:, :, 8:40, 10:38] = rng.normal(size=(30, 1, 32, 28))
    values, rows = pack(pictures, BACKGROUND)
    rows["scan"] = np.arange(30) // 5
    names = ("cohort", "session", "site", "contrast", "axes", "voxel_hash")
    scans = [dict.fromkeys(names, "x") | {"subject": f"s{number}", "slices": 5} for number in range(6)]
    write_shard(folder, 0, values, rows, np.zeros((6, 1, 1, 1), np.uint8), scans, [])
    commit_corpus(folder, 1, size_px=SIDE, background=BACKGROUND)
    return folder


def made_by(folder, workers, micro_batch=0):
    corpus = open_corpus(folder)
    config = PretrainConfig(
        corpus=folder,
        steps=7,
        batch_size=4,
        model=ViTConfig(dim=32, depth=1, heads=2, patch_size=8),
        crops=CropConfig(global_px=32, local_px=16, local_count=2, ghosting=0.3, low_resolution=0.3),
        loss=LossConfig(koleo=0.0),
        compute=ComputeConfig(workers=workers, micro_batch=micro_batch),
    )
    return Batches(corpus, config, training_subjects(corpus, config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("workers", [1, 2])
def test_order_and_bytes_are_the_same_with_any_number_of_workers(folder, workers):
    alone = [made_by(folder, 0, 2).passes(step) for step in range(2, 7)]
    shared = list(made_by(folder, workers, 2)(2))
    assert len(alone) == len(shared) == 5
    for one, other in zip(alone, shared, strict=True):
        assert len(one) == len(other) == 2
        for first, second in zip(one, other, strict=True):
            for name in vars(first):
                assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("workers", [2, 1, 0])
def test_a_damaged_slice_is_named_whoever_read_it(tmp_path, workers):
    batches = made_by(write_corpus(tmp_path), workers)
    shard = tmp_path / "shard-00000.npy"
    data = bytearray(shard.read_bytes())
    wanted = int(batches.slices(3)[1])
    data[-2 * 32 * 28 * (30 - wanted) + 11] ^= 1
    with open(shard, "r+b") as file:
        file.write(data)
    made, first = 0, next(step for step in range(7) if wanted in batches.slices(step))
    with pytest.raises(ValueError, match=rf"^slice {wanted} in .*shard-00000.npy differs from its record; delete"):
        for _ in batches(0):
            made += 1
    assert made == first


def test_workers_end_with_a_parent_that_is_killed(folder):
    code = (
        "import sys, time; sys.path[:0] = sys.argv[2:]; from test_batches import made_by; from pathlib import Path;"
        "import multiprocessing; batches = made_by(Path(sys.argv[1]), 2)(0); next(batches);"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *map(str, Path(__file__).parents[:2])],
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = [int(number) for number in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(_runs(worker) for worker in workers)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 40
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.2)


def _runs(process):
    """False also for one that ended but was not yet waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_crops_are_stacked_crop_by_crop(folder):
    batches = made_by(folder, 0)
    (batch,) = batches.passes(0)
    assert batch.global_crops.shape == (8, 1, 32, 32) and batch.local_crops.shape == (8, 1, 16, 16)
    config = replace(batches.config, batch_size=2)
    (fewer,) = Batches(batches.corpus, config, batches.subjects).passes(0)
    for crop in range(2):
        assert torch.equal(batch.global_crops[4 * crop : 4 * crop + 2], fewer.global_crops[2 * crop : 2 * crop + 2])
