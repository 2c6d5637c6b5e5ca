"""Batches as a function of (seed, step): one slice per subject where there are enough, crops, masks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Int

from braindino.corpus.jobs import end_with_parent
from braindino.corpus.sampler import Sampler, epoch_sampler
from braindino.corpus.shards import Corpus
from braindino.pretraining.config import CropConfig, PretrainConfig
from braindino.pretraining.crops import Crops, counts_and_sides, multi_crop
from braindino.pretraining.masks import sample_masks
from braindino.pretraining.networks import Batch

SLICES, CROPS, MASKS, SIZES = 0, 1, 2, 3
"""Streams of random numbers; each draw is seeded by (seed, step, stream, ...)."""


@dataclass(frozen=True)
class Batches:
    """Makes the batch of any step from nothing but the step: so a resumed run needs no sampler state.

    A slice's crops and masks depend on its place in the whole batch alone, so that ranks and passes may share it out in
    any way: pass a of rank r holds `size` places from (a * ranks + r) * size on.
    """

    corpus: Corpus
    config: PretrainConfig
    subjects: tuple[str, ...]
    rank: int = 0
    ranks: int = 1

    @property
    def size(self) -> int:
        """Slices of one pass of one rank.

        Raises:
            ValueError: the batch cannot be shared out evenly.
        """
        batch, micro = self.config.batch_size, self.config.compute.micro_batch
        if batch % self.ranks:
            raise ValueError(f"batch_size {batch} cannot be shared by {self.ranks} processes; make it a multiple")
        share = batch // self.ranks
        if micro and share % micro:
            raise ValueError(f"compute.micro_batch {micro} does not divide the {share} slices of a process")
        return micro or share

    @property
    def places(self) -> list[range]:
        """Places of the whole batch that this rank holds, one range per pass."""
        size = self.size
        starts = range(self.rank * size, self.config.batch_size, self.ranks * size)
        return [range(start, start + size) for start in starts]

    def slices(self, step: int) -> Int[np.ndarray, " batch"]:
        """Numbers of the slices of a step, on all ranks, by `config.sampling`.

        `subjects`: subjects in a random order, repeated if there are too few, a slice each. Adjacent slices of one
        subject are near-duplicates: two in one batch break KoLeo and Sinkhorn-Knopp. `slices`: see `corpus.sampler`.
        """
        if self.config.sampling == "slices":
            return self._sampler.slices(step)
        rng = np.random.default_rng([self.config.seed, step, SLICES])
        size = self.config.batch_size
        rounds = -(-size // len(self.subjects))
        order = np.concatenate([rng.permutation(len(self.subjects)) for _ in range(rounds)])[:size]
        of_subject = self.corpus.slices_of_subject
        return np.array([rng.choice(of_subject[self.subjects[number]]) for number in order])

    @cached_property
    def _sampler(self) -> Sampler:
        config = self.config
        return epoch_sampler(self.corpus, self.subjects, config.batch_size, config.seed, dict(config.weights))

    def passes(self, step: int) -> list[Batch]:
        """The batches of this rank at a step, one per pass."""
        numbers = self.slices(step)
        return [self._batch(step, numbers, places) for places in self.places]

    def _batch(self, step: int, numbers: Int[np.ndarray, " batch"], places: range) -> Batch:
        config, recipe = self.config, self.corpus.recipe
        crops, gram = crops_at(config, step), config.loss.gram > 0
        whole = [
            np.empty((count, len(places), recipe.channels, side, side), np.float32)
            for count, side in counts_and_sides(crops, gram=gram)
        ]
        for sample, place in enumerate(places):
            rng = np.random.default_rng([config.seed, step, CROPS, place])
            picture = self.corpus.read(int(numbers[place]))
            into = Crops(*(part[:, sample] for part in whole))
            multi_crop(picture, recipe.background, crops, rng, gram=gram, into=into)
        side = crops.global_px // config.model.patch_size
        masks = sample_masks(
            np.random.default_rng([config.seed, step, MASKS]),
            2 * len(numbers),
            (side, side),
            probability=config.loss.mask_probability,
            ratio=config.loss.mask_ratio,
            chosen=[*places, *(len(numbers) + place for place in places)],
        )
        global_crops, local_crops, gram_crops = (torch.from_numpy(part.reshape(-1, *part.shape[2:])) for part in whole)
        return Batch(global_crops, local_crops, gram_crops, patch_masks=torch.from_numpy(masks))

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """For a worker: what it was made from, without what was made on demand."""
        return type(self), (self.corpus, self.config, self.subjects, self.rank, self.ranks)

    def __getitem__(self, step: int) -> list[Batch] | ValueError:
        """`passes`, as torch's DataLoader asks for them; what is wrong is handed over, for it to be raised as it is."""
        try:
            return self.passes(step)
        except ValueError as error:
            return error

    def __len__(self) -> int:
        """Steps of the run."""
        return self.config.steps

    def __call__(self, first: int) -> Iterator[list[Batch]]:
        """Passes of step `first`, of the next one, ... to the last; made ahead while others are used.

        By `compute.workers` processes, or without any by a thread.
        """
        steps = range(first, self.config.steps)
        if self.config.compute.workers:
            yield from _loader(self, steps)
            return
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.passes, first)
            for step in steps:
                batch = coming.result()
                if step + 1 < self.config.steps:
                    coming = pool.submit(self.passes, step + 1)
                yield batch


def _loader(batches: Batches, steps: range) -> Iterator[list[Batch]]:
    """Steps made by worker processes, in order; with a GPU in memory from which it copies while it computes.

    Workers are started anew, not forked: a fork copies the locks of threads (OpenCV's, CUDA's) but not the threads that
    would open them.
    """
    from torch.utils.data import DataLoader

    loader: DataLoader[list[Batch] | ValueError] = DataLoader(
        batches,  # type: ignore[arg-type]
        sampler=steps,
        batch_size=None,
        num_workers=batches.config.compute.workers,
        multiprocessing_context="spawn",
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin,
    )
    for made in loader:
        if isinstance(made, ValueError):
            raise made
        yield made


def _begin(_: int) -> None:
    """Workers are many: each keeps to one core, and ends with its parent, even one that is killed while it starts."""
    end_with_parent()
    cv2.setNumThreads(1)


def crops_at(config: PretrainConfig, step: int) -> CropConfig:
    """The crops of a step: with mixed sizes one row of `crops.sizes`, the same on every rank, drawn from (seed, step).

    One size per step and not per slice, so that a batch is one tensor (DINOv3, arXiv 2508.10104, section 5.1).
    """
    if not config.crops.sizes:
        return config.crops
    rng = np.random.default_rng([config.seed, step, SIZES])
    shares = np.array([share for *_, share in config.crops.sizes])
    drawn = int(rng.choice(len(shares), p=shares / shares.sum()))
    global_px, local_px, gram_px, _ = config.crops.sizes[drawn]
    return replace(config.crops, global_px=global_px, local_px=local_px, gram_px=gram_px, sizes=())


def training_subjects(corpus: Corpus, config: PretrainConfig) -> tuple[str, ...]:
    """Subjects of the corpus ("cohort/subject") without the excluded ones and those held out for the probe.

    Raises:
        ValueError: an excluded name that matches no subject, or nobody left.
    """
    known = set(corpus.names)
    strangers = [name for name in config.exclude if name not in known]
    if strangers:
        raise ValueError(f"exclude names {strangers[0]!r}, which is not in the corpus (names are cohort/subject)")
    subjects = tuple(sorted(known - set(config.exclude) - set(held_out_subjects(corpus, config))))
    if not subjects:
        raise ValueError("no subject is left to pretrain on; the corpus holds excluded subjects only")
    return subjects


def held_out_subjects(corpus: Corpus, config: PretrainConfig) -> tuple[str, ...]:
    """Subjects of the probe: those not excluded with SHA-256(seed, name) in the lowest `probe.share` of its range.

    A subject's lot does not depend on the others: a larger corpus, or the next stage with the same seed and share,
    holds out the same people again. Nobody without a probe.
    """
    if not config.probe.every:
        return ()
    names = sorted(set(corpus.names) - set(config.exclude))
    lots = [int.from_bytes(sha256(f"{config.seed} {name}".encode()).digest()[:8], "big") / 2**64 for name in names]
    return tuple(name for name, lot in zip(names, lots, strict=True) if lot < config.probe.share)
