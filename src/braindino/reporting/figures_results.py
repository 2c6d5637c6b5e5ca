"""Curves and points of the predictions: predicted against true values, ROC, Kaplan-Meier."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from braindino.reporting.figures import DASHES, GREY, INK, PALETTE, Figure, canvas, curves, shortened, slug, style
from braindino.reporting.names import PRIOR, in_order, task_label
from braindino.reporting.page import counted, number, p_value
from braindino.stats.metrics import METRICS, binary_auc
from braindino.stats.survival import KaplanMeier, kaplan_meier, log_rank

if TYPE_CHECKING:
    import pandas as pd

DASHED = (0, (4, 3))


@dataclass(frozen=True)
class Threshold:
    """Where predicted risk is cut in two, and whether that was fixed before the test subjects were looked at."""

    value: float
    source: str
    fixed: bool


def scatter_figure(task: str, models: Mapping[str, pd.DataFrame], unit: str, synthetic: bool) -> Figure:
    """Predicted against true value, one panel per model, with identity line, MAE and r.

    Args:
        task: name.
        models: label of a model to its predictions.
        unit: of the target; "" where not known.
        synthetic: subjects are synthetic.
    """
    every = np.concatenate([np.r_[t["target"].to_numpy(float), t["output"].to_numpy(float)] for t in models.values()])
    low, high = every.min(), every.max()
    margin = 0.05 * (high - low or 1.0)
    box = (low - margin, high + margin)
    tail = f" ({unit})" if unit else ""
    with style():
        rows, columns = math.ceil(len(models) / 3), min(3, len(models))
        drawn = canvas(max(3.4, 3.0 * columns), 4.0 * rows, synthetic=synthetic)
        grid = drawn.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in list(grid.flat)[len(models) :]:
            axes.set_visible(False)
        for axes, (model, table) in zip(grid.flat, models.items(), strict=False):
            truth, said = table["target"].to_numpy(float), table["output"].to_numpy(float)
            axes.plot(box, box, color=INK, linestyle=DASHED, linewidth=0.9)
            axes.plot(truth, said, "o", color=colours(models)[model], markersize=5, alpha=0.75, markeredgewidth=0)
            error, r = METRICS["mae"].value(truth, said), METRICS["pearson_r"].value(truth, said)
            axes.set_title(f"{model}, n = {len(table)}\nMAE {number(error)}, r {number(r)}", fontsize=9.5)
            axes.set(xlim=box, ylim=box, xlabel=f"True value{tail}", aspect="equal")
        for axes in grid[:, 0]:
            axes.set_ylabel(f"Predicted value{tail}")
        return curves(
            drawn,
            f"scatter-{slug(task)}",
            f"{task_label(task)}: predicted against true value.",
            "One point per test case, heads trained on the largest fraction. On the dashed line the prediction is "
            "exact; a cloud flatter than the line regresses to the mean, a level row of points is the same answer for "
            f"everybody. MAE is in {unit or 'the unit of the target'}; r is not defined where a model says the same "
            "for everybody, and means little where it nearly does.",
            f"Scatter of predicted against true value for {', '.join(models)}.",
        )


def roc_figure(task: str, models: Mapping[str, pd.DataFrame], classes: tuple[str, ...], synthetic: bool) -> Figure:
    """ROC curves: one panel per class against the rest (one panel where there are two classes), two in a row."""
    shown = classes[:1] if len(classes) == 2 else classes
    rows, columns = math.ceil(len(shown) / 2), min(2, len(shown))
    with style():
        drawn = canvas(4.4 * columns, 4.5 * rows, synthetic=synthetic)
        grid = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        for axes, name in zip(grid.flat, shown, strict=False):
            axes.plot([0, 1], [0, 1], color=INK, linestyle=DASHED, linewidth=0.9)
            for n, (model, table) in enumerate(models.items()):
                truth = (table["target"].astype(str) == name).to_numpy()
                score = table[f"output_{name}"].to_numpy(float)
                area = float(binary_auc(truth, score, np.ones((1, len(score))))[0])
                look = {"color": colours(models)[model], "linestyle": DASHES[n % len(DASHES)]}
                axes.plot(
                    *roc_curve(truth, score), **look, label=f"{shortened(model, 20)}: {number(area)}, n = {len(table)}"
                )
            found = next(iter(models.values()))["target"].astype(str) == name
            axes.set_title(f"{name} ({int(found.sum())} of {len(found)} cases)", loc="left")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.legend(
                title="AUC", title_fontsize=7.5, loc="lower right", fontsize=7.5, borderaxespad=0.3, handlelength=2.6
            )
        for axes in grid[-1]:
            axes.set_xlabel("False positive rate")
        for axes in grid[:, 0]:
            axes.set_ylabel("True positive rate")
        return curves(
            drawn,
            f"roc-{slug(task)}",
            f"{task_label(task)}: ROC curves on the test cases.",
            "How many of a class are found (upwards) for how many others are taken for it (to the right). A curve on "
            "the dashed diagonal is chance, one in the upper left corner is perfect. Steps are large where cases are "
            "few; the intervals of the AUC stand in the table.",
            f"ROC curves of {', '.join(models)} for {', '.join(shown)}.",
        )


def roc_curve(
    positive: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """False and true positive rate as the threshold falls, equal scores in one step; from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    true, false = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.r_[0.0, false / max(1, false[-1])], np.r_[0.0, true / max(1, true[-1])]


def survival_figure(
    task: str, model: str, table: pd.DataFrame, threshold: Threshold, unit: str, synthetic: bool
) -> Figure:
    """Kaplan-Meier curves of high and low predicted risk, with 95 % bands, subjects at risk and log-rank p.

    Raises:
        ValueError: all subjects on one side of the threshold.
    """
    time, risk = table["time"].to_numpy(float), table["output"].to_numpy(float)
    event = table["event"].to_numpy(float) > 0
    test = log_rank(time, event, risk, threshold.value)
    groups = {"low risk": ~test.high, "high risk": test.high}
    found = {name: kaplan_meier(time[who], event[who]) for name, who in groups.items()}
    with style():
        drawn = canvas(7.2, 4.6, synthetic=synthetic)
        axes, below = drawn.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        for (name, curve), colour, dash in zip(found.items(), PALETTE, DASHES, strict=False):
            label = f"{name} (n = {groups[name].sum()}, {counted(int(event[groups[name]].sum()), 'event')})"
            axes.step(curve.time, curve.survival, where="post", color=colour, linestyle=dash, label=label)
            axes.fill_between(curve.time, curve.low, curve.high, step="post", color=colour, alpha=0.15, linewidth=0)
            stopped = time[groups[name] & ~event]
            axes.plot(stopped, survival_at(curve, stopped), "|", color=colour, markersize=8, markeredgewidth=1.5)
        axes.set(ylabel="Surviving share", ylim=(-0.02, 1.05))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=3)
        descriptive = "" if threshold.fixed else " (descriptive)"
        axes.set_title(f"{model}: log-rank {p_value(test.p)}{descriptive}", pad=26)
        ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= time.max()]
        _at_risk(below, ticks, {name: time[who] for name, who in groups.items()})
        below.set_xlabel(f"Time{f' ({unit})' if unit else ''}")
        small = min(test.low_subjects, test.high_subjects)
        return curves(
            drawn,
            f"survival-{slug(task)}-{slug(model)}",
            f"{task_label(task)}: Kaplan-Meier curves of low and high predicted risk, {model}.",
            f"High risk means a predicted risk of at least {number(threshold.value)}, {threshold.source}. Bands are 95 "
            "% intervals, small strokes censored subjects; the rows below count the subjects still at risk. "
            + (f"One of the groups has only {counted(small, 'subject')}: read no shape into it. " if small < 5 else "")
            + ("" if threshold.fixed else "Cut at the test subjects' own median, p is descriptive and no test."),
            f"Survival curves of {test.low_subjects} cases at low and {test.high_subjects} at high predicted risk.",
        )


def survival_at(curve: KaplanMeier, time: Float[np.ndarray, " subject"]) -> Float[np.ndarray, " subject"]:
    """The step function S(t) at given times."""
    return np.asarray(curve.survival[np.searchsorted(curve.time, time, side="right") - 1])


def _at_risk(axes: Any, ticks: list[float], times: Mapping[str, np.ndarray]) -> None:
    for row, (own, colour) in enumerate(zip(times.values(), PALETTE, strict=False)):
        for tick in ticks:
            axes.text(tick, row, str(int((own >= tick).sum())), color=colour, ha="center", va="center", fontsize=8.5)
    axes.set_yticks(range(len(times)), [f"at {name}" for name in times])
    axes.set_xticks(ticks)
    axes.set(ylim=(len(times) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[["left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def colours(models: Iterable[str]) -> dict[str, str]:
    """One colour per model, the same in every figure of a task; the trivial answer is grey."""
    learned = in_order({*models} - {PRIOR})
    named = {model: PALETTE[n % len(PALETTE)] for n, model in enumerate(learned)}
    return {model: named.get(model, GREY) for model in models}
