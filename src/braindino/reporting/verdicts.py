"""What may be said about a difference, and no more: plain sentences from paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from braindino.reporting.artefacts import Answers, rows_of
from braindino.reporting.names import (
    BASELINES,
    CLINICAL,
    IN_UNIT,
    PRIOR,
    RANDOM,
    baseline_label,
    encoder_label,
    head_label,
    metric_label,
    model_label,
    task_label,
    trivial,
)
from braindino.reporting.page import counted, number, p_value, with_interval
from braindino.stats.metrics import METRICS
from braindino.stats.names import plugin_of

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""A difference is called better or worse where its interval excludes 0 and its adjusted p is below this."""
SAME = 0.02
"""Predictions that vary by less than this share of what they predict are called the same for everybody."""

MOST_NAMED = 12
"""Comparisons that the summary names one by one."""
MOST_TOLD = 3
"""Models of a task that get sentences of their own."""

Conclusion = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Contest:
    """A model against a baseline on the same test subjects: model minus baseline."""

    task: str
    metric: str
    encoder: str
    head: str
    baseline: str
    """A key of `BASELINES`."""
    fraction: float
    difference: float
    low: float
    high: float
    p: float
    """Adjusted by Holm over all comparisons of the task at this fraction."""
    subjects: int

    @property
    def alone(self) -> Conclusion:
        """What its interval says, before correction for the other comparisons."""
        return conclude(self.low, self.high, METRICS[self.metric].higher_is_better)

    @property
    def conclusion(self) -> Conclusion:
        """What may be claimed: better or worse only where the adjusted p is small too."""
        return self.alone if self.p < SIGNIFICANT else "no difference shown"

    @property
    def sentence(self) -> str:
        """The claim with its numbers."""
        other = BASELINES[self.baseline]
        numbers = f"difference {with_interval(self.difference, self.low, self.high)}, Holm-adjusted {p_value(self.p)}"
        if self.alone == "no difference shown":
            return f"No difference from {other} is shown ({numbers})."
        by = f"{self.alone} than {other} by {number(abs(self.difference))}"
        if self.conclusion == "no difference shown":
            return f"Taken alone it is {by}, but that does not hold after correction for all comparisons ({numbers})."
        return f"It is {by} ({numbers})."


def conclude(low: float, high: float, higher_is_better: bool) -> Conclusion:
    """What the 95 % interval of a - b says of a: better or worse where it excludes 0, else no difference shown.

    An undefined interval shows no difference either; an interval that ends at 0 includes it.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) == higher_is_better else "worse"


def headline_metrics(
    metrics: pd.DataFrame, comparisons: pd.DataFrame, tables: Sequence[pd.DataFrame]
) -> dict[str, str]:
    """Task to the metric that its predictions or its comparisons name; else the first one scored for it."""
    named = dict(zip(metrics["task"][::-1], metrics["metric"][::-1], strict=True))
    named |= dict(zip(comparisons["task"], comparisons["metric"], strict=True))
    named |= {str(table["task"].iloc[0]): str(table["metric"].iloc[0]) for table in tables if len(table)}
    return {task: named[task] for task in dict.fromkeys(metrics["task"])}


def contests(comparisons: pd.DataFrame) -> list[Contest]:
    """Every comparison of a model with a baseline, whichever of the two stands first in its row.

    Args:
        comparisons: rows of `comparisons.tsv`, unperturbed and of the test subjects.
    """
    found = []
    for row in rows_of(comparisons):
        for own, other, sign in ((str(row.a), str(row.b), 1), (str(row.b), str(row.a), -1)):
            (encoder, _, head), baseline = own.partition("/"), _baseline(own, other)
            if baseline:
                low, high = sorted((sign * row.low, sign * row.high))
                numbers = (row.fraction, sign * row.difference, low, high, row.p_holm, int(row.subjects))
                found.append(Contest(str(row.task), str(row.metric), encoder, head, baseline, *numbers))
    return found


def _baseline(own: str, other: str) -> str:
    """Which baseline `other` is for the model `own` (both "encoder/head"); "" for none."""
    (encoder, _, head), (rival, _, its_head) = own.partition("/"), other.partition("/")
    if plugin_of(encoder) in BASELINES or trivial(head):
        return ""
    if trivial(its_head):
        return PRIOR
    if plugin_of(rival) == CLINICAL:
        return CLINICAL
    return RANDOM if plugin_of(rival) == RANDOM and its_head == head and _alike(encoder, rival) else ""


def _alike(encoder: str, rival: str) -> bool:
    """Whether pooling and fusion of two encoders are the same, and the variant too where the rival names one."""
    own, other = (name.removeprefix(plugin_of(name)) for name in (encoder, rival))
    return other in (own, own[own.find("+") :] if "+" in own else "")


def in_short(found: Sequence[Contest]) -> str:
    """How many comparisons with a baseline came out how; "" without any."""
    if not found:
        return ""
    sides = {side: [one for one in found if one.conclusion == side] for side in ("better", "worse")}
    alone = sum(one.alone != one.conclusion for one in found)
    tasks, fractions = (len({getattr(one, name) for one in found}) for name in ("task", "fraction"))
    against = ", ".join(baseline_label(name) for name in BASELINES if any(one.baseline == name for one in found))
    sentences = [
        f"In short: models were compared {counted(len(found), 'time')} with a baseline ({against}), on "
        f"{counted(tasks, 'task')} at {counted(fractions, 'label fraction')}. After Holm's correction "
        f"within each task and fraction {len(sides['better'])} comparisons show them better, "
        f"{len(sides['worse'])} worse, and {len(found) - len(sides['better']) - len(sides['worse'])} show no difference"
        + (f" ({alone} of these would have shown one if taken alone)." if alone else ".")
    ]
    sentences += [f"{side.capitalize()}: {_listed(which)}." for side, which in sides.items() if which]
    if not sides["better"]:
        sentences.append("No encoder beat the baselines on any of these tasks.")
    return " ".join(sentences)


def _listed(which: Sequence[Contest]) -> str:
    """Each by its name, or, of more than `MOST_NAMED`, how many of each encoder."""
    if len(which) <= MOST_NAMED:
        return ", ".join(
            f"{encoder_label(o.encoder)} on {task_label(o.task)} against {baseline_label(o.baseline)} "
            f"at {o.fraction:.0%}"
            for o in which
        )
    names = [one.encoder for one in which]
    return ", ".join(f"{encoder_label(name)} {counted(names.count(name), 'time')}" for name in dict.fromkeys(names))


def verdict(task: str, metric: str, metrics: pd.DataFrame, found: Sequence[Contest], *, unit: str = "") -> str:
    """One paragraph per task: how each model stands against the baselines; of many, the best one only.

    Args:
        task: which task.
        metric: its headline metric.
        metrics: rows of `metrics.tsv`, unperturbed test rows at one fraction.
        found: the contests at that fraction.
        unit: of the target.
    """
    own = metrics[(metrics["task"] == task) & (metrics["metric"] == metric)]
    told = own[~own["encoder"].map(plugin_of).isin(BASELINES) & ~own["head"].map(trivial).astype(bool)]
    if len(told) > MOST_TOLD:
        told = told.sort_values("value", ascending=not METRICS[metric].higher_is_better, kind="stable").head(1)
    same = [one for one in found if (one.task, one.metric) == (task, metric)]
    sentences = [_sentence(row, metric, same, unit) for row in rows_of(told)]
    return f"{task_label(task)}: " + (" ".join(sentences) or "no encoder was scored beside the baselines.")


def _sentence(row: Any, metric: str, found: Sequence[Contest], unit: str) -> str:
    own = [one for one in found if (one.encoder, one.head) == (row.encoder, row.head)]
    sentences = [
        f"{encoder_label(row.encoder)} with the {head_label(row.head)} head reaches "
        f"{metric_label(metric).partition(',')[0]} {with_interval(row.value, row.low, row.high)}"
        f"{f' {unit}' if unit and metric in IN_UNIT else ''} "
        f"on {counted(row.subjects, 'test subject')}.",
        *(one.sentence for one in own),
    ]
    missing = [BASELINES[kind] for kind in (RANDOM, PRIOR) if kind not in {one.baseline for one in own}]
    if missing:
        sentences.append(f"It was not compared with {' or '.join(missing)}.")
    return " ".join(sentences)


def same_for_everybody(one: Answers, unit: str = "") -> str:
    """A sentence where a learned model answers nearly the same for all test subjects; else "".

    Regression: the standard deviation of the predictions is less than `SAME` of the targets'; classification: no
    class's probability has a standard deviation above `SAME`.
    """
    outputs = [name for name in one.good.columns if str(name).startswith("output")]
    if trivial(one.head) or len(one.good) < 2 or one.kind not in ("regression", "classification"):
        return ""
    spread = float(one.good[outputs].std(ddof=0).max())
    limit = SAME * (float(one.good["target"].std(ddof=0)) if one.kind == "regression" else 1.0)
    if spread > limit:
        return ""
    what = "value" if one.kind == "regression" else "probabilities"
    unit = f" {unit}" if unit and one.kind == "regression" else ""
    return (
        f"{task_label(one.task)}: {model_label(one.encoder, one.head)} at {one.fraction:.0%} gives all test subjects "
        f"nearly the same {what} (standard deviation {number(spread)}{unit}): the head found nothing to go by in these "
        "features and answers like the prior."
    )
