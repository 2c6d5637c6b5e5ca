"""Which slices a step sees, when every slice is to be seen once per epoch. No hidden state: all from (seed, step).

The epochs follow each other as one stream that is cut into batches; step t takes places t x batch_size onwards. So
every batch is full, and the one that ends an epoch begins the next.

Adjacent slices of a subject are near-duplicates, and two in one batch break KoLeo. So an epoch is not permuted freely
but dealt like cards: the subjects in a random order, each with all its slices, are dealt in rounds, one slice to each
batch per round, every round with another random order of the batches. A subject then meets a batch twice only if it
has more slices than there are batches; where a subject lies across two rounds, the second takes the batches that have
it least. The exception is the batch across two epochs, whose halves do not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, Int32

from braindino.corpus.shards import Corpus

SUBSET, SUBJECTS, ROUNDS = 10, 11, 12
"""Streams of random numbers; each draw is seeded by (seed, epoch, stream)."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """Exact epochs over slices; two samplers with equal fields agree on every step, asked in whatever order."""

    pool: Int32[np.ndarray, " slice"]
    """Numbers of the slices, subject by subject."""
    sizes: Int[np.ndarray, " subject"]
    """How many slices each subject has."""
    weights: Float[np.ndarray, " subject"]
    """How often a slice of each subject is seen per epoch, on average."""
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plan", lru_cache(2)(self._order))
        if not len(self):
            raise ValueError("no slice is left to draw; give some source a weight above 0")

    def __len__(self) -> int:
        """Slices per epoch: for each weight w and the n slices that have it, w x n, rounded."""
        return sum(round(w * int(self.sizes[self.weights == w].sum())) for w in np.unique(self.weights))

    def slices(self, step: int) -> Int[np.ndarray, " batch"]:
        """Slices of a step, for all ranks together; each takes its own places of them."""
        first, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while first < stop:
            epoch, place = divmod(first, len(self))
            part = self.epoch(epoch)[place : place + stop - first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts).astype(np.int64)

    def state(self, step: int) -> tuple[int, int]:
        """Epoch that a step begins in, and how many of its slices were seen before: all there is to know."""
        return divmod(step * self.batch_size, len(self))

    def epoch(self, number: int) -> Int32[np.ndarray, " slice"]:
        """All slices of an epoch in the order in which they are seen."""
        return self._plan(number)  # type: ignore[attr-defined,no-any-return]

    def _order(self, epoch: int) -> np.ndarray:
        cards, bounds = self._cards(epoch)
        head = min(-epoch * len(cards) % self.batch_size, len(cards))
        full, tail = divmod(len(cards) - head, self.batch_size)
        room = np.array([n for n in (head, *[self.batch_size] * full, tail) if n])
        starts = np.cumsum(room) - room
        order = np.empty_like(cards)
        rng = np.random.default_rng([self.seed, epoch, ROUNDS])
        taken, done = np.zeros(len(room), np.int64), 0
        dealt = np.empty(len(cards), np.int32)
        for number in range(int(room.max())):
            slots = rng.permutation(np.flatnonzero(room > number))
            slots = _apart(slots, dealt, done, bounds, taken)
            stop = done + len(slots)
            dealt[done:stop] = slots
            order[starts[slots] + number] = cards[done:stop]
            done = stop
        return order

    def _cards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The slices to deal, subject after subject in a random order, and where each subject begins and ends."""
        pool, sizes = self._weighted(epoch)
        chosen = np.random.default_rng([self.seed, epoch, SUBJECTS]).permutation(len(sizes))
        sizes_then = sizes[chosen]
        ends = np.cumsum(sizes_then)
        shift = (np.cumsum(sizes) - sizes)[chosen] - (ends - sizes_then)
        places = np.repeat(shift.astype(np.int32), sizes_then)
        places += np.arange(len(places), dtype=np.int32)
        return pool[places], np.concatenate([[0], ends])

    def _weighted(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Pool and sizes with each slice as often as this epoch sees it: the whole part of its weight, or once more."""
        if (self.weights == 1).all():
            return self.pool, self.sizes
        rng = np.random.default_rng([self.seed, epoch, SUBSET])
        of_slice = np.repeat(self.weights, self.sizes)
        times = np.floor(of_slice).astype(np.int64)
        for weight in np.unique(self.weights):
            rows = np.flatnonzero(of_slice == weight)
            more = round(weight * len(rows)) - int(weight) * len(rows)
            times[rng.permutation(rows)[:more]] += 1
        subject = np.repeat(np.arange(len(self.sizes)), self.sizes)
        sizes = np.bincount(subject, weights=times, minlength=len(self.sizes)).astype(np.int64)
        return np.repeat(self.pool, times), sizes


def _apart(slots: np.ndarray, dealt: np.ndarray, done: int, bounds: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The order `slots` of a round, changed so that the subject cut by its beginning goes where it is least."""
    subject = int(np.searchsorted(bounds, done, side="right")) - 1
    first, stop = int(bounds[subject]), int(bounds[subject + 1])
    coming = min(stop - done, len(slots))
    if first == done:
        return slots
    taken[:] = 0
    np.add.at(taken, dealt[first:done], 1)
    best = slots[np.argsort(taken[slots], kind="stable")][:coming]
    taken[best] = -1
    return np.concatenate([best, slots[taken[slots] >= 0]])


def epoch_sampler(
    corpus: Corpus, subjects: Sequence[str], batch_size: int, seed: int, weights: Mapping[str, float]
) -> Sampler:
    """Sampler over all slices of `subjects` ("cohort/subject").

    Args:
        corpus: where they are.
        subjects: whom to draw.
        batch_size: slices per step, over all ranks.
        seed: of everything random.
        weights: cohort to how often its slices are seen per epoch; 1 where it is not named, 0 leaves it out.

    Raises:
        ValueError: a weight for a cohort that is not in the corpus, a negative one, or nothing left to draw.
    """
    cohorts = set(corpus.scans["cohort"])
    for name, weight in weights.items():
        if name not in cohorts or not 0 <= weight < 1000:
            known = ", ".join(sorted(cohorts))
            raise ValueError(f"weight {weight} of {name!r}: expected 0 to 1000 for a cohort of the corpus ({known})")
    code = {name: number for number, name in enumerate(subjects)}
    owner = np.array([code.get(name, -1) for name in corpus.names], np.int64)
    kept = np.flatnonzero(owner >= 0)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    first = corpus.scans["first"].to_numpy(np.int64)[kept]
    count = corpus.scans["slices"].to_numpy(np.int64)[kept]
    pool = np.repeat((first - (np.cumsum(count) - count)).astype(np.int32), count)
    pool += np.arange(len(pool), dtype=np.int32)
    sizes = np.bincount(owner[kept], weights=count, minlength=len(code)).astype(np.int64)
    cohort = [name.partition("/")[0] for name in code]
    return Sampler(pool, sizes, np.array([float(weights.get(name, 1.0)) for name in cohort]), batch_size, seed)
