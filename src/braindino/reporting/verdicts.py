"""What may be said about a difference, and no more: plain sentences from paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from braindino.reporting.artefacts import rows_of
from braindino.reporting.figures_results import metric_label
from braindino.reporting.page import number, p_value, with_interval
from braindino.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

RANDOM, PRIOR = "random_init", "prior"
"""Encoder and head that anything learned must beat."""
BASELINES = {RANDOM: "the same network with random weights", PRIOR: "the trivial answer (prior)"}

SIGNIFICANT = 0.05
"""A difference is called better or worse where its interval excludes 0 and its adjusted p is below this."""

Conclusion = Literal["better", "worse", "no difference shown"]


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


def verdict(task: str, metric: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """One paragraph per task: how each pretrained model stands against random weights and the trivial answer.

    Args:
        task: which task.
        metric: its headline metric.
        metrics: rows of `metrics.tsv`, unperturbed test rows at one fraction.
        comparisons: rows of `comparisons.tsv`, likewise.
    """
    own = metrics[(metrics["task"] == task) & (metrics["metric"] == metric)]
    compared = comparisons[(comparisons["task"] == task) & (comparisons["metric"] == metric)]
    pretrained = own[(own["encoder"] != RANDOM) & (own["head"] != PRIOR)]
    sentences = [_sentence(row, metric, compared) for row in rows_of(pretrained)]
    return f"{task}: " + (" ".join(sentences) if sentences else "no pretrained model was scored.")


def _sentence(row: Any, metric: str, compared: pd.DataFrame) -> str:
    label = metric_label(metric).partition(",")[0]
    start = (
        f"{row.encoder} with the {row.head} head reaches {label} {with_interval(row.value, row.low, row.high)} "
        f"on {row.subjects} test subjects."
    )
    name = f"{row.encoder}/{row.head}"
    found = [(_baseline(other, row), pair) for other, pair in _opponents(name, compared)]
    clauses = [_clause(pair, BASELINES[kind], METRICS[metric].higher_is_better) for kind, pair in found if kind]
    missing = [words for kind, words in BASELINES.items() if kind not in dict(found)]
    if missing:
        clauses.append(f"It was not compared with {' or '.join(missing)}.")
    return " ".join([start, *clauses])


def _opponents(name: str, compared: pd.DataFrame) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Opponent and (difference, low, high, p) of `name` minus opponent, whichever of the two stands first."""
    pairs = []
    for row in rows_of(compared):
        if row.a == name:
            pairs.append((str(row.b), (row.difference, row.low, row.high, row.p_holm)))
        elif row.b == name:
            pairs.append((str(row.a), (-row.difference, -row.high, -row.low, row.p_holm)))
    return pairs


def _baseline(other: str, row: Any) -> str:
    """Which baseline a model name such as `random_init/linear` is for this row; "" for none."""
    encoder, _, head = other.partition("/")
    if head == PRIOR:
        return PRIOR
    return RANDOM if encoder == RANDOM and head == row.head else ""


def _clause(pair: tuple[float, float, float, float], baseline: str, higher_is_better: bool) -> str:
    value, low, high, p = pair
    numbers = f"difference {with_interval(value, low, high)}, Holm-adjusted {p_value(p)}"
    conclusion = conclude(low, high, higher_is_better)
    if conclusion == "no difference shown":
        return f"No difference from {baseline} is shown ({numbers})."
    if not p < SIGNIFICANT:
        return (
            f"Taken alone it is {conclusion} than {baseline} by {number(abs(value))}, but that does not hold after "
            f"correction for all comparisons ({numbers})."
        )
    return f"It is {conclusion} than {baseline} by {number(abs(value))} ({numbers})."
