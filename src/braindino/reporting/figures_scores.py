"""Curves and points of the scores: metric over label fraction, and paired differences from the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from braindino.reporting.artefacts import rows_of
from braindino.reporting.figures import GREY, INK, MARKERS, PALETTE, Figure, canvas, curves, shortened, style
from braindino.reporting.names import (
    CLINICAL,
    PRIOR,
    RANDOM,
    baseline_label,
    encoder_label,
    head_label,
    in_order,
    metric_label,
    model_label,
    task_label,
    trivial,
)
from braindino.reporting.verdicts import Contest
from braindino.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

CHANCE = {"roc_auc": 0.5, "concordance_index": 0.5, "pearson_r": 0.0, "r2": 0.0}
DASHED = (0, (4, 3))
MOST_CONTESTS = 12
SHADES = {RANDOM: PALETTE[1], PRIOR: GREY, CLINICAL: PALETTE[0]}
"""Colour of a difference by its baseline."""


def fraction_figure(
    rows: pd.DataFrame,
    tasks: Mapping[str, str],
    units: Mapping[str, str],
    sizes: Mapping[tuple[str, float], int],
    synthetic: bool,
) -> Figure:
    """Headline metric against the share of training subjects, with 95 % intervals, one panel per task.

    Args:
        rows: columns task, encoder, head, fraction, value, low, high, subjects; headline metric only, one head for
            each encoder and the trivial answer.
        tasks: task to the name of its headline metric.
        units: task to the unit of its target, where known.
        sizes: task and fraction to the number of training subjects, where known.
        synthetic: subjects are synthetic.
    """
    columns = min(2, len(tasks))
    named = rows.assign(model=[drawn_label(r.encoder, r.head) for r in rows_of(rows)])
    looks = looks_of(named["model"])
    with style():
        height = math.ceil(len(tasks) / columns)
        drawn = canvas(4.5 * columns, 3.05 * height + 0.4, synthetic=synthetic)
        grid = drawn.subplots(height, columns, squeeze=False)
        for axes in list(grid.flat)[len(tasks) :]:
            axes.set_visible(False)
        for axes, (task, metric) in zip(grid.flat, tasks.items(), strict=False):
            own = named[named["task"] == task]
            _fraction_panel(
                axes, own, looks, {f: sizes.get((task, f)) for f in sorted(map(float, own["fraction"].unique()))}
            )
            axes.set_ylabel(metric_label(metric, unit=units.get(task, ""), arrow=True))
            axes.set_title(f"{task_label(task)}\nn = {_span(own['subjects'])} test subjects")
            if metric in CHANCE:
                axes.axhline(CHANCE[metric], color=INK, linestyle=DASHED, linewidth=0.9, zorder=0)
        shared_legend(drawn, grid)
        return curves(
            drawn,
            "results-fractions",
            "Headline metric of every model, by the share of training subjects that had labels.",
            "Points are values on the test subjects (n above each panel), bars 95 % bootstrap intervals (BCa) "
            "over subjects. A dashed line marks chance. Arrows say which direction is better; axes do not begin at 0. "
            "Overlapping bars do not settle which model is better: the paired differences below do. "
            f"{heads_drawn(rows)}",
            f"Headline metric with intervals at each label fraction for {', '.join(task_label(t) for t in tasks)}.",
        )


def drawn_label(encoder: str, head: str) -> str:
    """A model in a figure that shows one head of each encoder."""
    return head_label(head) if trivial(head) else encoder_label(encoder)


def heads_drawn(rows: pd.DataFrame) -> str:
    """Which heads a figure shows."""
    learned = list(dict.fromkeys(head_label(head) for head in rows["head"] if not trivial(head)))
    return f"Shown is one head of each encoder ({', '.join(learned)})." if learned else ""


def shared_legend(drawn: Any, grid: np.ndarray) -> None:
    """One legend above all panels, each model once."""
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    ordered = [*in_order({*handles} - {PRIOR}), *({*handles} & {PRIOR})]
    drawn.legend([handles[text] for text in ordered], ordered, loc="outside upper left", ncols=min(4, len(handles)))


def _fraction_panel(
    axes: Any, rows: pd.DataFrame, looks: Mapping[str, tuple[str, str]], sizes: Mapping[float, int | None]
) -> None:
    models = list(dict.fromkeys(rows["model"]))
    places = {fraction: n for n, fraction in enumerate(sizes)}
    apart = min(0.12, 0.7 / len(models))
    for n, model in enumerate(models):
        colour, marker = looks[model]
        own = rows[rows["model"] == model].sort_values("fraction")
        x = own["fraction"].map(places).to_numpy(float) + apart * (n - (len(models) - 1) / 2)
        value, low, high = (own[name].to_numpy(float) for name in ("value", "low", "high"))
        axes.vlines(x, low, high, color=colour)
        axes.plot(x, value, marker, color=colour, markersize=6, linestyle="-", linewidth=0.8, label=model)
    few = len(sizes) <= 3
    ticks = [f"{f:.0%}" if sizes[f] is None else f"{f:.0%}\n{sizes[f]}{' subjects' if few else ''}" for f in sizes]
    if not few:
        axes.set_xlabel("share, number of training subjects" if any(sizes.values()) else "share of training subjects")
    axes.set_xticks(range(len(sizes)), ticks)
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.grid(axis="x", visible=False)


def looks_of(models: Sequence[str] | pd.Series[Any]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model, in the order of `names.in_order`; the trivial answer is grey."""
    learned = in_order({*models} - {PRIOR})
    looks = {model: (PALETTE[n % len(PALETTE)], MARKERS[n % len(MARKERS)]) for n, model in enumerate(learned)}
    return looks | {PRIOR: (GREY, "X")}


def _span(counts: pd.Series[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def difference_figure(found: Sequence[Contest], units: Mapping[str, str], synthetic: bool) -> Figure:
    """Model minus baseline with 95 % intervals, one panel per task, better always to the right.

    Of a task with more than `MOST_CONTESTS` contests only those at its largest fraction are drawn.

    Args:
        found: the contests.
        units: task to the unit of its target, where known.
        synthetic: subjects are synthetic.
    """
    tasks = {task: _few([one for one in found if one.task == task]) for task in dict.fromkeys(o.task for o in found)}
    heights = [len(own) + 2.8 for own in tasks.values()]
    with style():
        drawn = canvas(8.0, 0.27 * sum(heights) + 0.3, synthetic=synthetic)
        grid = drawn.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (task, own) in zip(grid, tasks.items(), strict=True):
            _difference_panel(axes, own)
            label = metric_label(own[0].metric, unit=units.get(task, "")).partition(",")[0]
            axes.set_title(f"{task_label(task)}\n{label} difference (n = {own[0].subjects})")
        grid[-1].set_xlabel("← worse than the baseline | better →")
        return curves(
            drawn,
            "results-differences",
            "Each model minus a baseline, on the same n test subjects.",
            "Right of the solid line the model is better than the baseline, whichever direction the metric has (where "
            "lower is better the axis runs backwards). Bars are 95 % intervals of the paired difference, not corrected "
            "for their number; a filled point is a difference that holds after Holm's correction (p below 0.05), an "
            "open one is not shown to differ.",
            "Dot plot of paired differences between models and baselines for "
            f"{', '.join(task_label(task) for task in tasks)}.",
        )


def _few(own: list[Contest]) -> list[Contest]:
    if len(own) <= MOST_CONTESTS:
        return own
    return [one for one in own if one.fraction == max(other.fraction for other in own)]


def _difference_panel(axes: Any, own: Sequence[Contest]) -> None:
    ordered = sorted(own, key=lambda one: (one.encoder, one.head, -one.fraction))
    models = {(one.encoder, one.head) for one in own}
    for place, one in enumerate(ordered):
        colour = SHADES[one.baseline]
        if np.isfinite([one.low, one.high]).all():
            axes.plot([one.low, one.high], [place, place], color=colour)
        filled = colour if one.conclusion != "no difference shown" else "none"
        axes.plot(one.difference, place, "o", color=colour, markerfacecolor=filled, markersize=6)
    heads = [o.head for o in ordered]
    names = [f"{model_label(o.encoder, o.head, heads)} " if len(models) > 1 else "" for o in ordered]
    against = [baseline_label(o.baseline) for o in ordered]
    axes.set_yticks(
        range(len(ordered)),
        [f"{shortened(n, 30)}against {a}, {o.fraction:.0%}" for n, a, o in zip(names, against, ordered, strict=True)],
    )
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.9)
    span = max([abs(v) for o in own for v in (o.low, o.high, o.difference) if math.isfinite(v)] or [1.0]) or 1.0
    ends = (-1.08 * span, 1.08 * span)
    axes.set_xlim(ends if METRICS[own[0].metric].higher_is_better else ends[::-1])
    axes.grid(axis="y", visible=False)
