"""Headline metric of every encoder against the severity of a perturbation, and by age of the subjects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from braindino.reporting.artefacts import rows_of
from braindino.reporting.figures import INK, Figure, canvas, curves, style
from braindino.reporting.figures_scores import (
    CHANCE,
    DASHED,
    drawn_label,
    heads_drawn,
    looks_of,
    shared_legend,
)
from braindino.reporting.names import metric_label, task_label

if TYPE_CHECKING:
    import pandas as pd


def robustness_figure(
    place: int, rows: pd.DataFrame, tasks: Mapping[str, str], units: Mapping[str, str], synthetic: bool
) -> Figure:
    """Headline metric against severity, a row of panels per task and a column per perturbation, intervals as bands.

    Args:
        place: number of the figure, where the perturbations need several.
        rows: columns task, encoder, head, perturbation, severity (0 is clean), value, low, high, subjects; one head for
            each encoder.
        tasks: task to the name of its headline metric.
        units: task to the unit of its target, where known.
        synthetic: subjects are synthetic.
    """
    named = rows.assign(model=[drawn_label(r.encoder, r.head) for r in rows_of(rows)])
    looks, names = looks_of(named["model"]), list(dict.fromkeys(rows["perturbation"]))
    worst = int(rows["severity"].max())
    with style():
        drawn = canvas(max(5.0, 1.2 + 2.6 * len(names)), 2.2 * len(tasks) + 0.7, synthetic=synthetic)
        grid = drawn.subplots(len(tasks), len(names), squeeze=False, sharey="row", sharex=True)
        for line, (task, metric) in zip(grid, tasks.items(), strict=True):
            own = named[named["task"] == task]
            for axes, name in zip(line, names, strict=True):
                _severity_panel(axes, own[own["perturbation"] == name], looks)
                axes.set_title(name.replace("_", " "), fontweight="normal")
                axes.set_xticks(range(worst + 1))
                _chance(axes, metric)
            line[0].set_title(f"{task_label(task)}\n{names[0].replace('_', ' ')}")
            line[0].set_ylabel(metric_label(metric, unit=units.get(task, ""), arrow=True))
        for axes in grid[-1]:
            axes.set_xlabel("severity (0: clean)")
        shared_legend(drawn, grid)
        return curves(
            drawn,
            f"results-robustness-{place}",
            "Headline metric on perturbed test scans.",
            "Heads were learned on clean scans of all training subjects; only the test scans are perturbed. Severities "
            "are the package's own (docs/perturbations.md). Bands are 95 % intervals over subjects of each value, not "
            "of its change: the same subjects are asked at every severity. A dashed line marks chance. "
            f"{heads_drawn(rows)}",
            f"Lines of the headline metric over severity for {', '.join(names)} on "
            f"{', '.join(task_label(task) for task in tasks)}.",
        )


def _severity_panel(axes: Any, rows: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> None:
    for model, own in rows.groupby("model", sort=False):
        own, (colour, marker) = own.sort_values("severity"), looks[str(model)]
        x = own["severity"].to_numpy(float)
        axes.fill_between(x, own["low"].to_numpy(float), own["high"].to_numpy(float), color=colour, alpha=0.1, lw=0)
        axes.plot(x, own["value"].to_numpy(float), marker, color=colour, markersize=5, ls="-", lw=1.2, label=model)


def age_figure(rows: pd.DataFrame, units: Mapping[str, str], synthetic: bool) -> Figure:
    """Headline metric by age band with 95 % intervals, one panel per task, subjects of each band under the axis.

    Args:
        rows: of `strata.tsv`, variable age, one fraction and one head for each encoder.
        units: task to the unit of its target, where known.
        synthetic: subjects are synthetic.
    """
    named = rows.assign(model=[drawn_label(r.encoder, r.head) for r in rows_of(rows)])
    looks, tasks = looks_of(named["model"]), list(dict.fromkeys(rows["task"]))
    columns = min(2, len(tasks))
    height = math.ceil(len(tasks) / columns)
    with style():
        drawn = canvas(4.5 * columns, 2.7 * height + 0.6, synthetic=synthetic)
        grid = drawn.subplots(height, columns, squeeze=False)
        for axes in list(grid.flat)[len(tasks) :]:
            axes.set_visible(False)
        for axes, task in zip(grid.flat, tasks, strict=False):
            own = named[named["task"] == task]
            metric = str(own["metric"].iloc[0])
            _age_panel(axes, own, looks)
            axes.set_title(task_label(task))
            axes.set_ylabel(metric_label(metric, unit=units.get(task, ""), arrow=True))
            _chance(axes, metric)
        shared_legend(drawn, grid)
        return curves(
            drawn,
            "results-age",
            "Headline metric by age of the test subjects.",
            "Under each age band (years) stands the number of its test subjects. Bars are 95 % intervals over the "
            "subjects of the band; where a band lacks a class or an event there is no interval, or no point. Bands "
            "differ in size and in their mix of subjects; what may be said of two models within a band stands in the "
            "table of differences, where a band is large enough for a test. Lines join the points of a model and mean "
            f"nothing between them. {heads_drawn(rows)}",
            f"Headline metric by age band for {', '.join(task_label(task) for task in tasks)}.",
        )


def _age_panel(axes: Any, rows: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> None:
    levels = list(dict.fromkeys(rows["level"]))
    sizes = {level: int(rows["subjects"][rows["level"] == level].max()) for level in levels}
    models = list(dict.fromkeys(rows["model"]))
    apart = min(0.12, 0.7 / len(models))
    for n, model in enumerate(models):
        colour, marker = looks[model]
        own = rows[rows["model"] == model].set_index("level").reindex(levels)
        x = [place + apart * (n - (len(models) - 1) / 2) for place in range(len(levels))]
        axes.vlines(x, own["low"].to_numpy(float), own["high"].to_numpy(float), color=colour)
        axes.plot(x, own["value"].to_numpy(float), marker, color=colour, markersize=5, ls="-", lw=0.7, label=model)
    axes.set_xticks(range(len(levels)), [f"{level.replace(' and older', '+')}\nn = {sizes[level]}" for level in levels])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.grid(axis="x", visible=False)


def _chance(axes: Any, metric: str) -> None:
    if metric in CHANCE:
        axes.axhline(CHANCE[metric], color=INK, linestyle=DASHED, linewidth=0.9, zorder=0)
