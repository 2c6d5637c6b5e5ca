"""Twenty steps of the whole engine on slices made by a formula, against losses written down once.

A change that moves these numbers by more than 1e-4 changes what is learned: if it is meant, write down the new ones
(the test prints them) and say why in the commit.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino.corpus.shards import pack, write_shard
from braindino.corpus.thumbnail import THUMBNAIL
from braindino.model.config import ViTConfig
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining import loop
from braindino.pretraining.config import CropConfig, HeadConfig, LossConfig, PretrainConfig, TeacherConfig
from corpora import commit_corpus
from golden import fill

SIDE, SUBJECTS, SLICES = 48, 8, 3
TOTAL = [
    9.90749, 10.13685, 8.96416, 8.67262, 8.22354, 7.95672, 7.73659, 7.55137, 7.41871, 7.23822,
    7.15247, 7.12795, 7.00165, 7.04869, 6.95956, 6.87159, 6.88989, 6.89503, 6.85767, 6.84199,
]  # fmt: skip
LAST = {"global": 4.376009, "local": 4.392597, "ibot": 2.289932, "koleo": 1.649942, "target_entropy": 4.131423}


def slices():
    """Ellipses with waves and hashed noise, another shape and frequency for each subject."""
    row, column = (np.indices((SIDE, SIDE)) - (SIDE - 1) / 2) / SIDE
    for subject in range(SUBJECTS):
        for number in range(SLICES):
            inside = (row / (0.40 + 0.01 * subject)) ** 2 + (column / 0.35) ** 2 < 1 - 0.2 * number
            wave = np.sin(2 * np.pi * ((2 + subject % 3) * row + (1 + number) * column))
            noise = fill(100 * subject + number, (SIDE, SIDE)).numpy()
            yield np.where(inside, 0.8 * wave + 0.5 * noise, -3.0)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    corpus = tmp_path_factory.mktemp("golden") / "corpus"
    values, rows = pack(np.stack([*slices()]).astype(np.float32)[:, None], -3.0)
    rows["scan"] = np.repeat(np.arange(SUBJECTS), SLICES)
    names = ("cohort", "session", "site", "contrast", "axes", "voxel_hash")
    scans = [dict.fromkeys(names, "x") | {"subject": f"s{n}", "slices": SLICES} for n in range(SUBJECTS)]
    write_shard(corpus, 0, values, rows, np.zeros((SUBJECTS, *THUMBNAIL), np.uint8), scans, [])
    commit_corpus(corpus, 1, size_px=SIDE, background=-3.0)
    small = HeadConfig(hidden=32, bottleneck=16, prototypes=64, unit_prototypes=True)
    return PretrainConfig(
        corpus=corpus,
        steps=20,
        batch_size=8,
        model=ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=1.0),
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=small,
        ibot_head=small,
        loss=LossConfig(koleo=0.05),
        teacher=TeacherConfig(momentum=(0.9, 1.0)),
    )


def trained(config, run):
    pretrain(config, run)
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def log(config, tmp_path_factory):
    return trained(config, tmp_path_factory.mktemp("golden") / "run")


def test_the_losses_are_the_ones_written_down(log):
    found = [entry["total"] for entry in log]
    assert found == pytest.approx(TOTAL, rel=1e-4), [round(value, 6) for value in found]


@pytest.mark.parametrize("name", LAST)
def test_the_terms_of_the_last_step_are_the_ones_written_down(log, name):
    assert log[-1][name] == pytest.approx(LAST[name], rel=1e-4)


def test_bfloat16_products_as_on_a_gpu_stay_near_them(config, log, tmp_path, monkeypatch):
    """The path of a GPU, on the CPU: losses, targets, gradient and update under autocast, in both stages."""
    wide = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr(loop, "autocast", lambda compute, device: wide)
    found = trained(config, tmp_path / "run")
    assert [one["total"] for one in found] == pytest.approx(TOTAL, rel=0.02)
    assert [one["total"] for one in found] != [one["total"] for one in log]
    gram = replace(config, initial=tmp_path / "run", steps=4, loss=replace(config.loss, gram=1.5))
    gram = replace(gram, crops=replace(config.crops, gram_px=48))
    wide_gram = trained(gram, tmp_path / "gram")
    monkeypatch.undo()
    narrow = trained(gram, tmp_path / "narrow")
    assert all(one["finite"] for one in wide_gram) and "gram" in narrow[0]
    assert [one["total"] for one in wide_gram] == pytest.approx([one["total"] for one in narrow], rel=0.02)


def test_they_fall(log):
    found = [entry["total"] for entry in log]
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.1
