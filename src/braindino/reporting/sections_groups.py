"""For whom the models work: strata of the test subjects, and groups of high and low risk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from braindino.reporting.artefacts import Artefacts, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_groups import age_figure
from braindino.reporting.names import PRIOR, metric_label, model_label, task_label
from braindino.reporting.page import MOST_ROWS, Table, number, p_value, with_interval
from braindino.reporting.sections_summary import largest_fraction, plain
from braindino.reporting.verdicts import SIGNIFICANT, conclude
from braindino.stats.metrics import METRICS
from braindino.stats.strata import AGE, LEAST_OF_A_KIND, LEAST_SUBJECTS


def strata(found: Artefacts) -> Iterator[Figure | Table]:
    """Headline metric by age band as a figure, and by sex, age, site and contrasts as a table; at the largest fraction.

    Between them the differences of the models within each band. All show one head of each encoder; `strata.tsv` and
    `stratum_comparisons.tsv` hold all.
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
        yield from _age_differences(found)
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
        "what is asked of them: values of two groups are no comparison, and a group of few subjects says nothing. "
        "One head of each encoder; strata.tsv of the scores holds all.",
        ("task", "metric", "by", "group", "encoder, head", "value [95 % interval]", "subjects"),
        cells,
        folded=True,
    )


def _age_differences(found: Artefacts) -> Iterator[Table]:
    """A row per pair of drawn models, a column per age band that is large enough, oldest minus youngest last."""
    if found.stratum_comparisons is None:
        return
    rows = plain(found.stratum_comparisons)
    rows, heads = rows[rows["variable"] == AGE], found.main_heads()
    drawn = [_is_drawn(heads, row.task, row.a) and _is_drawn(heads, row.task, row.b) for row in rows_of(rows)]
    rows = rows[np.array(drawn, bool)]
    if not len(rows):
        return
    bands = sorted(dict.fromkeys(rows["level"]), key=lambda level: int(re.split(r"\D", level)[0]))
    cells = []
    for (task, metric, a, b), own in rows.groupby(["task", "metric", "a", "b"], sort=False):
        within = {row.level: _difference(row) for row in rows_of(own[own["minus"] == ""])}
        between = [f"{row.level} − {row.minus}: {_difference(row, between=True)}" for row in rows_of(own) if row.minus]
        pair = " minus ".join(model_label(*name.split("/")) for name in (str(a), str(b)))
        measured = metric_label(str(metric), unit=found.unit(str(task)), arrow=True)
        cells.append(
            (task_label(str(task)), measured, pair, *(within.get(band, "") for band in bands), *(between or [""]))
        )
    yield Table(
        "Do encoders differ within an age band? Differences of the headline metric on the same test subjects, at the "
        f"largest label fraction, with 95 % intervals. Bands of fewer than {LEAST_SUBJECTS} subjects (or "
        f"{LEAST_OF_A_KIND} of a class or with an event) have none. better, worse: the first model of the pair, where "
        "that holds after Holm's correction over the pairs and bands of the task. Last column: the difference in the "
        "oldest band minus that in the youngest; differs: Holm-adjusted p below 0.05 over the pairs of the task. A "
        "difference shown in one band and not in another does not by itself differ between the two. One head of each "
        "encoder; stratum_comparisons.tsv of the scores holds all.",
        ("task", "metric", "pair", *(f"age {band}" for band in bands), "oldest minus youngest"),
        tuple(cells),
        folded=len(cells) > MOST_ROWS,
    )


def _is_drawn(heads: Mapping[tuple[str, str], str], task: str, model: str) -> bool:
    encoder, _, head = model.partition("/")
    return head == PRIOR or heads.get((task, encoder)) == head


def _difference(row: Any, *, between: bool = False) -> str:
    """The difference with its interval, number of subjects and, where it holds after correction, what it says."""
    told = f"{with_interval(row.difference, row.low, row.high)}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row.subjects}"
    conclusion = conclude(row.low, row.high, METRICS[row.metric].higher_is_better)
    if conclusion == "no difference shown" or not row.p_holm < SIGNIFICANT:
        return told
    return f"{told}, {'differs' if between else conclusion}"


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
