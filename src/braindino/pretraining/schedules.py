"""One family of schedules, linear warm-up, half a cosine, then constant; and which of them a run follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.groups import scaled_rate


@dataclass(frozen=True)
class Schedule:
    """A number per step: from `start` linearly to `peak`, along half a cosine to `end`, then constant.

    With W = `warmup`, C = `cosine` steps, k = step - W:

    - `closed` (DINOv3's 7B recipe): start + (peak - start) step / W; the cosine has its last step at `end`:
      angle pi k / (C - 1).
    - `open` (DINOv2 and DINOv3's ViT-L recipe): start + (peak - start) step / (W - 1), so that the peak is met
      twice; the cosine stops one step short of `end`: angle pi k / C.
    - `open` with `stretch` e > 0: the cosine is laid out for int((1 + e) C) steps, cut after C and scaled to
      meet `end`.

    The value is end + (peak - end) (1 + cos angle) / 2.

    Raises:
        ValueError: negative lengths, phases longer than the whole, or `stretch` with `closed`.
    """

    start: float
    """Value at step 0, where there is a warm-up."""
    peak: float
    """Value after the warm-up."""
    end: float
    """Value after the cosine; greater than `peak` for a rise, equal to it for a constant."""
    warmup: int
    """Steps of warm-up W."""
    total: int
    """Steps of the run."""
    cosine: int | None = None
    """Steps of the cosine C; None for all that follow the warm-up."""
    form: Literal["closed", "open"] = "closed"
    """Where the phases end, see above."""
    stretch: float = 0.0
    """Share by which the cosine is longer than the run, `open` only."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or (self.cosine or 0) < 0 or self.warmup + (self.cosine or 0) > self.total:
            raise ValueError(
                f"warmup and cosine must be 0 or more and fit into total, "
                f"got warmup {self.warmup}, cosine {self.cosine}, total {self.total}"
            )
        if self.stretch < 0 or (self.stretch and self.form == "closed"):
            raise ValueError(f"stretch must be 0 or more, and 0 for the closed form, got {self.stretch}")

    def value(self, step: int) -> float:
        """The value at `step`, counted from 0; `end` after the last one."""
        length = self.total - self.warmup if self.cosine is None else self.cosine
        if step < self.warmup:
            intervals = self.warmup if self.form == "closed" else max(self.warmup - 1, 1)
            return self.start + (self.peak - self.start) * step / intervals
        if step - self.warmup >= length:
            return self.end
        return self.end + (self.peak - self.end) * self._fall(step - self.warmup, length)

    def _fall(self, step: int, length: int) -> float:
        """From 1 at step 0 to 0 at the end of the cosine."""
        if self.stretch == 0:
            return _half_cosine(step, length - 1 if self.form == "closed" else length)
        intervals = int((1 + self.stretch) * length) - 1
        last = _half_cosine(length - 1, intervals)
        return (_half_cosine(step, intervals) - last) / (1 - last)


def _half_cosine(step: int, intervals: int) -> float:
    return (1 + math.cos(math.pi * step / max(intervals, 1))) / 2


@dataclass(frozen=True)
class Schedules:
    """The quantities that change over a run."""

    rate: Schedule
    weight_decay: Schedule
    momentum: Schedule
    temperature: Schedule
    freeze_last_layer: int
    """Steps in which the prototypes do not move."""
    backbone: Schedule
    """Factor on the rate of the backbone without its patch embedding: 0 while the heads learn alone."""
    freeze_backbone: int
    """Steps in which that is so; then it rises to 1 over as many steps as the rate's warm-up."""

    def backbone_share(self, step: int) -> float:
        """The factor at `step`."""
        return 1.0 if not self.freeze_backbone else self.backbone.value(max(step - self.freeze_backbone, 0))


def schedules_of(config: PretrainConfig) -> Schedules:
    """Schedules of a run, from shares of its steps."""
    steps, optim, teacher = config.steps, config.optim, config.teacher
    peak = scaled_rate(optim.lr, config.batch_size)
    cold, hot = teacher.temperature
    warm = round(teacher.temperature_warmup * steps)
    return Schedules(
        rate=Schedule(0.0, peak, min(optim.end_lr, peak), round(optim.warmup * steps), steps),
        weight_decay=Schedule(optim.weight_decay[0], *optim.weight_decay, warmup=0, total=steps),
        momentum=Schedule(teacher.momentum[0], *teacher.momentum, warmup=0, total=steps),
        temperature=Schedule(cold, hot, hot, warm, steps),
        freeze_last_layer=round(optim.freeze_last_layer * steps),
        backbone=Schedule(0.0, 1.0, 1.0, round(optim.warmup * steps), steps),
        freeze_backbone=round(optim.freeze_backbone * steps),
    )
