"""Subjects whose kind is known and shows in nothing but the length of waves, for the benchmarks of learning.

A subject is a blob of random shape with random anatomy, receive field and noise, and a texture of waves in random
directions: their length (4, 5, 6.5 or 8.5 voxels) is the one thing in which the four kinds of subject differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from braindino.config import read_config
from braindino.corpus.shards import Corpus
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer
from braindino.pipeline.prepare import prepare
from braindino.pretraining.config import PretrainConfig
from braindino.record import write_bytes
from braindino.stats.representation import nearest_of_others
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe

WAVES = (4.0, 5.0, 6.5, 8.5)
"""Voxels of 3 mm."""
SHAPE, SPACING = (56, 64, 24), 3.0
SEED = 1001
CONFIGS = Path(__file__).parents[1] / "src" / "braindino" / "configs"


def made_corpus(work: Path, subjects: int, size_px: int = 64) -> Corpus:
    """Subjects number 0, 1, ... with the waves 0, 1, 2, 3, 0, ... in a BIDS tree, prepared."""
    rows = ["participant_id\tsite"]
    for number in range(subjects):
        name = f"sub-{number:03d}"
        path = work / "waves" / name / "anat" / f"{name}_T1w.nii.gz"
        if not path.is_file():
            write_nifti(path, made(number), np.diag([SPACING] * 3 + [1.0]))
        rows.append(f"{name}\twave{number % len(WAVES)}")
    write_bytes(work / "waves" / "participants.tsv", "\n".join(rows).encode())
    return prepare(
        [f"bids={work / 'waves'}"], work / f"corpus{size_px}", Recipe(spacing_mm=SPACING, size_px=size_px, slices=8)
    )


def asked_of(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """The subjects that are asked, 3 of 10, and the number of each one's kind."""
    names = np.array(sorted(corpus.slices_of_subject))
    asked = names[np.arange(len(names)) % 10 >= 7]
    site = dict(zip(corpus.names, corpus.scans["site"], strict=True))
    return asked, np.unique([site[name] for name in asked], return_inverse=True)[1]


def tiny_run(corpus: Corpus, asked: np.ndarray, steps: int) -> PretrainConfig:
    """Stage 1 of the tiny config on the others, with a network and crops for these subjects."""
    config = read_config(CONFIGS / "tiny_stage1.toml", PretrainConfig)
    crops = replace(config.crops, global_px=48, local_px=24, local_count=3)
    crops = replace(crops, global_scale=(0.5, 1.0), local_scale=(0.15, 0.3))
    model = ViTConfig(dim=64, depth=3, heads=2, patch_size=8, layer_scale=1.0)
    return replace(config, corpus=corpus.folder, steps=steps, model=model, crops=crops, exclude=tuple(asked))


def made(number: int) -> np.ndarray:
    """One subject: waves of one length and random directions, anatomy, noise, receive field."""
    rng = np.random.default_rng([SEED, number])
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = sum((axis / reach) ** 2 for axis, reach in zip(grid, 1 - 0.1 * rng.random(3), strict=True)) < 0.9
    frequency = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None], np.fft.fftfreq(SHAPE[1])[None])
    band = np.exp(-((frequency - 1 / WAVES[number % len(WAVES)]) ** 2) / (2 * 0.015**2))[..., None]
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal(SHAPE), axes=(0, 1)) * band, axes=(0, 1)).real
    anatomy, field = (gaussian_filter(rng.standard_normal(SHAPE), sd) for sd in ((7, 7, 2), (12, 12, 6)))
    waves, anatomy, field = (x / x.std() for x in (waves, anatomy, field))
    image = (100 + 12 * waves + 12 * anatomy + 8 * rng.standard_normal(SHAPE)) * (1 + 0.1 * field)
    return np.where(inside, image.clip(1), 0).astype(np.float32)


@torch.inference_mode()
def cls_of(
    network: VisionTransformer,
    corpus: Corpus,
    subjects: np.ndarray,
    read: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Mean CLS token of each subject's slices, as the corpus or `read` gives them."""
    read = read or corpus.read
    slices = [np.stack([read(int(n)) for n in corpus.slices_of_subject[name]]) for name in subjects]
    return np.stack([network(torch.from_numpy(one)).cls.mean(0).double().numpy() for one in slices])


def told(x: np.ndarray, kinds: np.ndarray, k: int) -> np.ndarray:
    """Whether the majority of the k nearest other subjects is of a subject's own kind."""
    nearest = nearest_of_others(x, np.arange(len(x)), k)
    votes = (kinds[nearest][..., None] == np.arange(kinds.max() + 1)).sum(1)
    return np.asarray(votes.argmax(1) == kinds, float)
