"""What a run says while it trains: one line of numbers, and once a word when its monitors look like a collapse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from braindino.pretraining.config import PretrainConfig

PATIENCE = 50
"""A monitor must be beyond its limit for so many steps in a row."""
ALIKE, FEW_DIRECTIONS, UNIFORM = 0.99, 2.0, 0.99
"""Limits of cls_cosine (above), effective_rank (below), and target_entropy as a share of ln K (above)."""

Entry = Mapping[str, Any]


def live_line(log: Sequence[Entry], config: PretrainConfig) -> str:
    """Loss, entropy of the targets as a share of ln K, effective rank, and the last k-NN probe where there is one."""
    entry = log[-1]
    said = entry["target_entropy"] / math.log(config.dino_head.prototypes)
    line = f"loss {entry['total']:.3f}, targets {said:.0%} of ln K, rank {entry['effective_rank']:.1f}"
    return line + "".join(f", k-NN {probed['knn_cls']:.3g}" for probed in _last_probe(log, config))


def alarms(log: Sequence[Entry], config: PretrainConfig) -> list[str]:
    """A sentence for each limit that the last `PATIENCE` entries, but not the one before, are all beyond.

    So each is said once, as long as the monitor stays there.
    """
    return [sentence for sentence, beyond in _limits(config).items() if _streak(log, beyond) == PATIENCE]


def _limits(config: PretrainConfig) -> dict[str, Callable[[Entry], bool]]:
    warm, level = config.optim.warmup * config.steps, UNIFORM * math.log(config.dino_head.prototypes)
    return {
        "all CLS tokens point the same way (cls_cosine): the run has collapsed": lambda e: e["cls_cosine"] > ALIKE,
        "CLS tokens span fewer than 2 directions (effective_rank): the run has collapsed": (
            lambda e: e["effective_rank"] < FEW_DIRECTIONS
        ),
        "all targets choose one prototype (prototypes_used): the run has collapsed": lambda e: e["prototypes_used"] < 2,
        "targets are uniform (target_entropy at ln K): nothing is learned; lower teacher.temperature": (
            lambda e: e["step"] >= warm and e["target_entropy"] > level
        ),
    }


def _streak(log: Sequence[Entry], beyond: Callable[[Entry], bool]) -> int:
    """Entries at the end that are beyond, at most one more than `PATIENCE`."""
    length = 0
    for entry in reversed(log[-PATIENCE - 1 :]):
        if not beyond(entry):
            break
        length += 1
    return length


def _last_probe(log: Sequence[Entry], config: PretrainConfig) -> list[Entry]:
    every = config.probe.every
    return [entry for entry in log[-every:] if "knn_cls" in entry][-1:] if every else []
