"""How far each model falls under simulated changes of the acquisition: a figure and a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from braindino.reporting.artefacts import Artefacts, reported_rows, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_groups import robustness_figure
from braindino.reporting.names import metric_label, model_label, task_label
from braindino.reporting.page import Table, number, with_interval
from braindino.reporting.sections_summary import headlines, of_headline

CLEAN = "none"
WIDE = 3
"""Perturbations in one figure."""


def robustness(found: Artefacts) -> Iterator[Figure | Table]:
    """Headline metric on perturbed test scans at the largest fraction, beside the same models on clean ones."""
    rows = severities(found)
    if not len(rows):
        return
    named, drawn = headlines(found), found.in_figures(rows)
    names = list(dict.fromkeys(rows["perturbation"]))
    units = {task: found.unit(task) for task in dict.fromkeys(rows["task"])}
    for number_, first in enumerate(range(0, len(names), WIDE), 1):
        own = drawn[drawn["perturbation"].isin(names[first : first + WIDE])]
        tasks = {task: named[task] for task in dict.fromkeys(own["task"])}
        yield robustness_figure(number_, own, tasks, units, found.synthetic_results)
    yield _table(found, rows)


def severities(found: Artefacts) -> pd.DataFrame:
    """Rows of `metrics.tsv` under each perturbation, and once more for each of them the clean ones as severity 0.

    Headline metric of the test subjects, for the models at the fraction that was perturbed.
    """
    assert found.metrics is not None
    metrics = of_headline(found, reported_rows(found.metrics))
    changed = metrics[metrics["perturbation"] != CLEAN]
    keys = changed[["task", "encoder", "head", "fraction", "perturbation"]].drop_duplicates()
    clean = metrics[metrics["perturbation"] == CLEAN].drop(columns="perturbation")
    clean = keys.merge(clean, on=["task", "encoder", "head", "fraction"])
    rows = pd.concat([clean[changed.columns], changed], ignore_index=True)
    place = {name: n for n, name in enumerate(dict.fromkeys(metrics["task"]))}
    order = rows["task"].map(place)
    return rows.assign(order=order).sort_values(["order", "encoder", "head", "perturbation", "severity"], kind="stable")


def _table(found: Artefacts, rows: pd.DataFrame) -> Table:
    keys = ["task", "encoder", "head", "fraction", "perturbation"]
    clean = {_key(row): row.value for row in rows_of(rows[rows["severity"] == 0])}
    cells = tuple(
        (
            task_label(row.task),
            metric_label(row.metric, unit=found.unit(row.task), arrow=True),
            model_label(row.encoder, row.head),
            row.perturbation.replace("_", " "),
            str(int(row.severity)),
            with_interval(row.value, row.low, row.high),
            _change(row.value, clean.get(_key(row))),
        )
        for row in rows_of(rows[rows["severity"] > 0].sort_values(["order", *keys[1:], "severity"], kind="stable"))
    )
    return Table(
        "Headline metric on perturbed test scans, and its change from clean ones (perturbed minus clean, same heads, "
        "same subjects; without an interval)",
        ("task", "metric", "encoder, head", "perturbation", "severity", "value [95 % interval]", "change from clean"),
        cells,
        folded=True,
    )


def _key(row: Any) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in ("task", "encoder", "head", "fraction", "perturbation"))


def _change(value: float, clean: float | None) -> str:
    if clean is None:
        return "no clean value"
    change = number(value - clean)
    return f"+{change}" if value > clean else change
