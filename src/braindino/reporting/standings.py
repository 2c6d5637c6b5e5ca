"""Which model is best on which task, and what it is better than: one row per task, one sentence over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from braindino.reporting.artefacts import rows_of
from braindino.reporting.names import (
    BASELINES,
    PRIOR,
    baseline_label,
    encoder_label,
    metric_label,
    model_label,
    trivial,
)
from braindino.reporting.names import task_label as label
from braindino.reporting.page import Table, counted, number, with_interval
from braindino.reporting.verdicts import Contest
from braindino.stats.metrics import METRICS
from braindino.stats.names import plugin_of

if TYPE_CHECKING:
    import pandas as pd

SHOWN = {"better": "better", "worse": "worse", "no difference shown": "not shown to differ"}


@dataclass(frozen=True)
class Standing:
    """The model with the best value of a task's headline metric on the test subjects, and the second best encoder."""

    task: str
    metric: str
    encoder: str
    head: str
    value: float
    low: float
    high: float
    second: str
    """Label and value of the best model of another encoder; "" where there is none."""
    against: dict[str, str]
    """Baseline to better, worse or not shown to differ, after correction; empty where the best is a baseline."""

    @property
    def baseline(self) -> bool:
        """Whether a baseline leads."""
        return plugin_of(self.encoder) in BASELINES or trivial(self.head)


def standings(rows: pd.DataFrame, found: Sequence[Contest]) -> list[Standing]:
    """The best of each task; tasks without any defined value are left out.

    Args:
        rows: of `metrics.tsv`, headline metric only, unperturbed test rows at the largest fraction.
        found: the contests at that fraction.
    """
    best = []
    for task, own in rows.groupby("task", sort=False):
        up = METRICS[str(own["metric"].iloc[0])].higher_is_better
        ordered = own[np.isfinite(own["value"])].sort_values("value", ascending=not up, kind="stable")
        if not len(ordered):
            continue
        first, *others = rows_of(ordered)
        other = next((row for row in others if row.encoder != first.encoder or trivial(row.head)), None)
        second = "" if other is None else f"{model_label(other.encoder, other.head)}: {number(other.value)}"
        mine = [one for one in found if (one.task, one.encoder, one.head) == (task, first.encoder, first.head)]
        told = (str(task), first.metric, first.encoder, first.head, first.value, first.low, first.high, second)
        best.append(Standing(*told, {one.baseline: SHOWN[one.conclusion] for one in mine}))
    return best


def standings_table(best: Sequence[Standing], units: dict[str, str]) -> Table:
    """A row per task."""
    shown = [name for name in BASELINES if any(name in one.against for one in best)]
    rows = tuple(
        (
            label(one.task),
            metric_label(one.metric, unit=units.get(one.task, ""), arrow=True),
            model_label(one.encoder, one.head) + (" (a baseline)" if one.baseline else ""),
            with_interval(one.value, one.low, one.high),
            one.second,
            *("" if one.baseline else one.against.get(name, "not compared") for name in shown),
        )
        for one in best
    )
    against = (f"against {baseline_label(name)}" for name in shown)
    columns = ("task", "metric", "best model", "value [95 % interval]", "best of another encoder", *against)
    return Table(
        "The model with the best value of each task at the largest label fraction, and whether the difference to the "
        "baselines holds after Holm's correction. The best of many is best partly by luck: whether it beats the "
        "second is told only by their paired comparison.",
        columns,
        rows,
    )


def standings_sentence(best: Sequence[Standing]) -> str:
    """Which encoder has the best value where, and how many of these are shown to be better than the baselines."""
    if not best:
        return ""
    by_encoder: dict[str, list[Standing]] = {}
    for one in best:
        name = PRIOR if trivial(one.head) else encoder_label(one.encoder)
        by_encoder.setdefault(name, []).append(one)
    ordered = sorted(by_encoder.items(), key=lambda item: -len(item[1]))
    named = "; ".join(f"{name} on {len(own)} ({', '.join(label(one.task) for one in own)})" for name, own in ordered)
    sentences = [f"Best value of the headline metric, on {counted(len(best), 'task')}: {named}."]
    for baseline in BASELINES:
        compared = [one for one in best if baseline in one.against]
        holds = [one for one in compared if one.against[baseline] == "better"]
        if compared:
            what = f"The leader is shown to be better than {baseline_label(baseline)}"
            which = f" ({', '.join(label(one.task) for one in holds)})" if holds else ""
            sentences.append(f"{what} on {len(holds)} of {counted(len(compared), 'task')}{which}.")
    return " ".join(sentences)
