"""What changes over a run: the schedules of rate, decay, momentum, temperature, and what is frozen at first."""

from __future__ import annotations

from dataclasses import dataclass

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.groups import scaled_rate
from braindino.pretraining.schedules import Schedule


@dataclass(frozen=True)
class Plans:
    """The quantities that change over a run."""

    rate: Schedule
    weight_decay: Schedule
    momentum: Schedule
    temperature: Schedule
    freeze_last_layer: int
    """Steps in which the prototypes do not move."""
    freeze_backbone: int
    """Steps in which the backbone does not move, but for its patch embedding."""


def plans_of(config: PretrainConfig) -> Plans:
    """Schedules of a run, from shares of its steps."""
    steps, optim, teacher = config.steps, config.optim, config.teacher
    peak = scaled_rate(optim.lr, config.batch_size)
    cold, hot = teacher.temperature
    warm = round(teacher.temperature_warmup * steps)
    return Plans(
        rate=Schedule(0.0, peak, min(optim.end_lr, peak), round(optim.warmup * steps), steps),
        weight_decay=Schedule(optim.weight_decay[0], *optim.weight_decay, warmup=0, total=steps),
        momentum=Schedule(teacher.momentum[0], *teacher.momentum, warmup=0, total=steps),
        temperature=Schedule(cold, hot, hot, warm, steps),
        freeze_last_layer=round(optim.freeze_last_layer * steps),
        freeze_backbone=round(optim.freeze_backbone * steps),
    )
