"""For whom the models work: strata of the test subjects, and groups of high and low risk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from braindino.reporting.artefacts import Artefacts, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_groups import age_figure
from braindino.reporting.names import metric_label, model_label, task_label
from braindino.reporting.page import Table, number, p_value, with_interval
from braindino.reporting.sections_summary import largest_fraction, plain

AGE = "age"


def strata(found: Artefacts) -> Iterator[Figure | Table]:
    """Headline metric by age band as a figure, and by sex, age, site and contrasts as a table; at the largest fraction.

    Both show one head of each encoder; `strata.tsv` holds all.
    """
    if found.strata is None or not len(found.strata):
        return
    rows = found.in_figures(largest_fraction(plain(found.strata)))
    if not len(rows):
        return
    by_age = rows[rows["variable"] == AGE]
    if len(by_age):
        units = {task: found.unit(task) for task in dict.fromkeys(by_age["task"])}
        yield age_figure(by_age, units, found.synthetic_results)
    cells = tuple(
        (
            task_label(row.task),
            metric_label(row.metric, unit=found.unit(row.task), arrow=True),
            str(row.variable),
            str(row.level),
            model_label(row.encoder, row.head),
            with_interval(row.value, row.low, row.high),
            str(row.subjects),
        )
        for row in rows_of(rows)
    )
    yield Table(
        "Headline metric by groups of the test subjects, at the largest label fraction. Groups differ in size and in "
        "what is asked of them: no difference between groups was tested, and one of few subjects says nothing. "
        "One head of each encoder; strata.tsv of the scores holds all",
        ("task", "metric", "by", "group", "encoder, head", "value [95 % interval]", "subjects"),
        cells,
        folded=True,
    )


def risk_groups(found: Artefacts, task: str) -> Iterator[Table]:
    """Median survival of high and low risk with the log-rank test, for all models at the largest fraction."""
    if found.risk_groups is None:
        return
    own = found.risk_groups[found.risk_groups["task"] == task]
    if not len(own):
        return
    own = largest_fraction(plain(own))
    unit = f" ({found.unit(task)})" if found.unit(task) else ""
    cells = tuple(_risk_row(row, bool((own["seed"] != own["seed"].iloc[0]).any())) for row in rows_of(own))
    columns = ("encoder, head", "risk", "cut at", "subjects", "events", f"median survival{unit} [95 %]")
    yield Table(
        f"{task_label(task)}: test subjects at high and low predicted risk, cut at the median risk of the training "
        "subjects. ∞: the curve does not come down to one half. Log-rank test of the two groups of a model, Holm's "
        "correction over all such tests of the task at this label fraction.",
        (*columns, "log-rank χ²", "p", "Holm-adjusted p"),
        cells,
    )


def _risk_row(row: Any, several: bool) -> tuple[str, ...]:
    seed = f", seed {row.seed}" if several else ""
    first = row.group == "high"
    tests = (number(row.log_rank), _p(row.p), _p(row.p_holm)) if first else ("", "", "")
    return (
        model_label(row.encoder, row.head) + seed if first else "",
        str(row.group),
        number(row.threshold) if first else "",
        str(int(row.subjects)),
        str(int(row.events)),
        _median(row.median, row.median_low, row.median_high),
        *tests,
    )


def _median(value: float, low: float, high: float) -> str:
    """The ends may be infinite."""
    if pd.isna(value):
        return number(value)
    return f"{number(value)} [{number(low)},\N{NO-BREAK SPACE}{number(high)}]"


def _p(p: float) -> str:
    return p_value(p).removeprefix("p ").removeprefix("= ")
