"""Curves and points of the results: intervals, predicted against true values, ROC, Kaplan-Meier."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from braindino.reporting.artefacts import rows_of
from braindino.reporting.figures import GREY, INK, PALETTE, Figure, canvas, curves, slug, style
from braindino.reporting.page import number, p_value
from braindino.stats.metrics import METRICS, binary_auc
from braindino.stats.survival import KaplanMeier, kaplan_meier, log_rank

if TYPE_CHECKING:
    import pandas as pd

CHANCE = {"roc_auc": 0.5, "concordance_index": 0.5, "pearson_r": 0.0, "r2": 0.0}
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Threshold:
    """Where predicted risk is cut in two, and whether that was fixed before the test subjects were looked at."""

    value: float
    source: str
    fixed: bool


def forest_figure(rows: pd.DataFrame, tasks: Mapping[str, str]) -> Figure:
    """Headline metric of every model and fraction with its 95 % interval, one panel per task.

    Args:
        rows: columns task, model, fraction, value, low, high; headline metric only.
        tasks: task to the name of its headline metric.
    """
    fractions = sorted(rows["fraction"].unique(), reverse=True)
    heights = [len(rows[rows["task"] == task]) + 1.9 for task in tasks]
    with style():
        drawn = canvas(8.0, 0.26 * sum(heights) + 0.5)
        grid = drawn.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (task, metric) in zip(grid, tasks.items(), strict=True):
            _forest(axes, rows[rows["task"] == task], fractions)
            axes.set_title(f"{task}: {metric_label(metric)}")
            if metric in CHANCE:
                axes.axvline(CHANCE[metric], color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
        return curves(
            drawn,
            "results-intervals",
            "Headline metric of every model with its 95 % interval.",
            "Points are values on the test subjects, bars 95 % percentile bootstrap intervals over subjects. Colour is "
            "the model (grey: the trivial answer), the percentage the share of training subjects used. A dashed line "
            "marks chance. Overlapping bars do not settle which model is better: the paired differences do.",
            "Dot plot of the headline metric with intervals for " + ", ".join(tasks) + ".",
        )


def _forest(axes: Any, rows: pd.DataFrame, fractions: list[float]) -> None:
    colour_of = colours(rows["model"])
    ordered = rows_of(rows.sort_values("fraction", ascending=False, kind="stable"))
    for place, row in enumerate(ordered):
        colour = colour_of[row.model]
        marker = MARKERS[fractions.index(row.fraction) % len(MARKERS)]
        if np.isfinite([row.low, row.high]).all():
            axes.plot([row.low, row.high], [place, place], color=colour)
        axes.plot(row.value, place, marker, color=colour, markersize=5.5)
    axes.set_yticks(range(len(ordered)), [f"{r.model}, {r.fraction:.0%}" for r in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def scatter_figure(task: str, models: Mapping[str, pd.DataFrame]) -> Figure:
    """Predicted against true value, one panel per model, with identity line, MAE and r."""
    every = np.concatenate([np.r_[t["target"].to_numpy(float), t["output"].to_numpy(float)] for t in models.values()])
    low, high = every.min(), every.max()
    margin = 0.05 * (high - low or 1.0)
    box = (low - margin, high + margin)
    with style():
        rows, columns = math.ceil(len(models) / 3), min(3, len(models))
        drawn = canvas(max(3.4, 3.0 * columns), 3.6 * rows)
        grid = drawn.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in list(grid.flat)[len(models) :]:
            axes.set_visible(False)
        for axes, (model, table) in zip(grid.flat, models.items(), strict=False):
            truth, said = table["target"].to_numpy(float), table["output"].to_numpy(float)
            axes.plot(box, box, color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
            axes.plot(truth, said, "o", color=colours(models)[model], markersize=5, alpha=0.75, markeredgewidth=0)
            error, r = METRICS["mae"].value(truth, said), METRICS["pearson_r"].value(truth, said)
            axes.set_title(f"{model}\nMAE {number(error)}, r {number(r)}", fontsize=9.5)
            axes.set(xlim=box, ylim=box, xlabel="True value", aspect="equal")
        for axes in grid[:, 0]:
            axes.set_ylabel("Predicted value")
        return curves(
            drawn,
            f"scatter-{slug(task)}",
            f"{task}: predicted against true value.",
            "One point per test case. On the dashed line the prediction is exact; a cloud flatter than the line "
            "regresses to the mean. MAE is in the unit of the target; r is not defined where a model says the same for "
            "everybody.",
            f"Scatter of predicted against true value for {', '.join(models)}.",
        )


def roc_figure(task: str, models: Mapping[str, pd.DataFrame], classes: tuple[str, ...]) -> Figure:
    """ROC curves: one panel per class against the rest (one panel where there are two classes)."""
    shown = classes[:1] if len(classes) == 2 else classes
    with style():
        drawn = canvas(min(9.0, 4.0 * len(shown)), 4.2)
        grid = drawn.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for axes, name in zip(grid, shown, strict=True):
            axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
            for model, table in models.items():
                truth = (table["target"].astype(str) == name).to_numpy()
                score = table[f"output_{name}"].to_numpy(float)
                area = float(binary_auc(truth, score, np.ones((1, len(score))))[0])
                axes.plot(*roc_curve(truth, score), color=colours(models)[model], label=f"{model}, {number(area)}")
            counted = next(iter(models.values()))["target"].astype(str) == name
            axes.set_title(f"{name} ({int(counted.sum())} of {len(counted)} cases)")
            axes.set(xlabel="False positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.legend(loc="lower right", fontsize=8, title="AUC", title_fontsize=8)
        grid[0].set_ylabel("True positive rate")
        return curves(
            drawn,
            f"roc-{slug(task)}",
            f"{task}: ROC curves on the test cases.",
            "How many of a class are found (upwards) for how many others are taken for it (to the right). A curve on "
            "the dashed diagonal is chance, one in the upper left corner is perfect. Steps are large where cases are "
            "few.",
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


def survival_figure(task: str, model: str, table: pd.DataFrame, threshold: Threshold) -> Figure:
    """Kaplan-Meier curves of high and low predicted risk, with 95 % bands, subjects at risk and log-rank p.

    Raises:
        ValueError: all subjects on one side of the threshold.
    """
    time, risk = table["time"].to_numpy(float), table["output"].to_numpy(float)
    event = table["event"].to_numpy(float) > 0
    test = log_rank(time, event, risk, threshold.value)
    groups = {"low risk": ~test.high, "high risk": test.high}
    found = {name: kaplan_meier(time[who], event[who]) for name, who in groups.items()}
    ticks = np.linspace(0, time.max(), 6)
    with style():
        drawn = canvas(7.2, 4.6)
        axes, below = drawn.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        for (name, curve), colour in zip(found.items(), PALETTE, strict=False):
            axes.step(curve.time, curve.survival, where="post", color=colour, label=name)
            axes.fill_between(curve.time, curve.low, curve.high, step="post", color=colour, alpha=0.15, linewidth=0)
            stopped = time[groups[name] & ~event]
            axes.plot(stopped, survival_at(curve, stopped), "|", color=colour, markersize=7)
        axes.set(ylabel="Surviving share", ylim=(-0.02, 1.02))
        axes.legend(loc="upper right")
        axes.set_title(f"{model}: log-rank {p_value(test.p)}" + ("" if threshold.fixed else " (descriptive)"))
        _at_risk(below, ticks, {name: time[who] for name, who in groups.items()})
        return curves(
            drawn,
            f"survival-{slug(task)}-{slug(model)}",
            f"{task}: Kaplan-Meier curves of low and high predicted risk, {model}.",
            f"High risk means a predicted risk of at least {number(threshold.value)}, {threshold.source}. Bands are 95 "
            "% intervals, small strokes censored subjects; the rows below count the subjects still at risk. "
            + ("" if threshold.fixed else "Cut at the test subjects' own median, p is descriptive and no test."),
            f"Survival curves of {test.low_subjects} cases at low and {test.high_subjects} at high predicted risk.",
        )


def survival_at(curve: KaplanMeier, time: Float[np.ndarray, " subject"]) -> Float[np.ndarray, " subject"]:
    """The step function S(t) at given times."""
    return np.asarray(curve.survival[np.searchsorted(curve.time, time, side="right") - 1])


def _at_risk(axes: Any, ticks: np.ndarray, times: Mapping[str, np.ndarray]) -> None:
    for row, (own, colour) in enumerate(zip(times.values(), PALETTE, strict=False)):
        for tick in ticks:
            axes.text(tick, row, str(int((own >= tick).sum())), color=colour, ha="center", va="center", fontsize=8.5)
    axes.set_yticks(range(len(times)), list(times))
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.set(ylim=(len(times) - 0.5, -0.5), xlabel="Time (at risk above)")
    axes.grid(visible=False)
    axes.spines[["left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def colours(models: Iterable[str]) -> dict[str, str]:
    """One colour per model (encoder/head), the same in every figure of a task; the trivial answer is grey."""
    learned = sorted({model for model in models if not model.endswith("/prior")})
    named = {model: PALETTE[n % len(PALETTE)] for n, model in enumerate(learned)}
    return {model: named.get(model, GREY) for model in models}


def metric_label(metric: str, *, arrow: bool = False) -> str:
    """A metric's name as it is read aloud, and which direction is good, in words or as an arrow."""
    names = {"mae": "MAE", "roc_auc": "AUC", "concordance_index": "C-index", "dice": "Dice", "hd95_mm": "HD95 (mm)",
             "rmse": "RMSE", "r2": "R²", "pearson_r": "Pearson r", "brier": "Brier score", "f1": "F1"}  # fmt: skip
    known = METRICS.get(metric)
    up, down = (" ↑", " ↓") if arrow else (", higher is better", ", lower is better")
    direction = "" if known is None else (up if known.higher_is_better else down)
    return names.get(metric, metric) + direction
