"""The results of each task: fractions, differences, every metric, and a figure of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from braindino.reporting.artefacts import Answers, Artefacts, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_results import Threshold, roc_figure, scatter_figure, survival_figure
from braindino.reporting.figures_scores import difference_figure, fraction_figure
from braindino.reporting.figures_segmentation import Segmentation, segmentation_figure
from braindino.reporting.names import (
    BASELINES,
    RANDOM,
    REGIONS,
    baseline_label,
    label_names,
    metric_label,
    model_label,
    task_label,
    trivial,
)
from braindino.reporting.page import MOST_ROWS, Section, Table, Text, p_value, table_of, with_interval
from braindino.reporting.sections_groups import risk_groups, strata
from braindino.reporting.sections_robustness import robustness
from braindino.reporting.sections_summary import headlines, of_headline, plain
from braindino.reporting.verdicts import Contest, contests
from braindino.stats.metrics import METRICS, segmentation_metric
from braindino.stats.names import plugin_of
from braindino.tasks import training_cases
from braindino.volume.io import read_case, read_labels

if TYPE_CHECKING:
    import pandas as pd

Blocks = list[Text | Table | Figure]


def results_section(found: Artefacts) -> Section:
    """Tables and figures of every task."""
    blocks: Blocks = []
    metrics, answered, heads = None, found.headline_answers(), found.main_heads()
    if found.metrics is not None and found.comparisons is not None:
        metrics = plain(found.metrics)
        blocks += _overview(found, metrics, contests(plain(found.comparisons)))
        blocks += robustness(found)
        blocks += strata(found)
    tasks = dict.fromkeys([*(metrics["task"] if metrics is not None else ()), *answered])
    for task in tasks:
        blocks.append(Text(task_label(task), "heading"))
        if metrics is not None and (metrics["task"] == task).any():
            blocks.append(_task_table(found, metrics[metrics["task"] == task], task))
        if task in answered:
            drawn = [one for one in answered[task] if trivial(one.head) or one.head == heads[task, one.encoder]]
            blocks += list(FIGURES[drawn[0].kind](found, task, drawn))
        blocks += risk_groups(found, task)
    if found.comparisons is not None and len(found.comparisons):
        columns = [name for name in found.comparisons.columns if name not in ("perturbation", "severity", "split")]
        compared = plain(found.comparisons)[columns]
        blocks.append(table_of(compared, "All paired comparisons (a minus b), Holm-adjusted", folded=True))
    return Section("Results", tuple(blocks), found.synthetic_results)


def _overview(found: Artefacts, metrics: pd.DataFrame, duels: list[Contest]) -> Iterator[Figure | Table]:
    if len(metrics):
        named = headlines(found)
        rows = found.in_figures(of_headline(found, metrics))
        tasks = {task: named[task] for task in dict.fromkeys(rows["task"])}
        units = {task: found.unit(task) for task in tasks}
        yield fraction_figure(rows, tasks, units, _training_sizes(found), found.synthetic_results)
        if duels:
            heads = found.main_heads()
            drawn = [one for one in duels if heads.get((one.task, one.encoder), one.head) == one.head]
            yield difference_figure(drawn, units, found.synthetic_results)
            yield _contest_table(duels, units)


def _training_sizes(found: Artefacts) -> dict[tuple[str, float], int]:
    """Task and fraction to the number of training subjects, for the tasks at hand."""
    pairs = {(one.task, one.fraction): one.seed for one in found.answers if one.task in found.tasks}
    return {
        (task, fraction): len({case.subject for case in training_cases(found.tasks[task], fraction, seed)})
        for (task, fraction), seed in pairs.items()
    }


def _contest_table(duels: list[Contest], units: dict[str, str]) -> Table:
    rows = tuple(
        (
            task_label(one.task),
            metric_label(one.metric, unit=units.get(one.task, ""), arrow=True),
            f"{one.fraction:.0%}",
            f"{model_label(one.encoder, one.head)} minus {baseline_label(one.baseline)}",
            with_interval(one.difference, one.low, one.high),
            p_value(one.p).removeprefix("p ").removeprefix("= "),
            one.conclusion if one.conclusion != "no difference shown" else "not shown to differ",
        )
        for one in duels
    )
    columns = ("task", "metric", "label fraction", "pair", "difference [95 %]", "Holm-adjusted p", "the first is")
    return Table(
        "Models against the baselines at every label fraction, on the same test subjects. "
        f"Baselines: {', '.join(BASELINES[name] for name in BASELINES if any(o.baseline == name for o in duels))}.",
        columns,
        rows,
        folded=len(rows) > MOST_ROWS,
    )


def _task_table(found: Artefacts, own: pd.DataFrame, task: str) -> Table:
    """One row per model and fraction (segmentation: and region), one column per metric."""
    rows = own.assign(region="", name=own["metric"])
    known = "|".join(name for name, metric in METRICS.items() if metric.kind == "segmentation")
    split = own["metric"].str.extract(rf"^(?:(.*?)_)?({known})$")  # of two that fit the longer: it leaves less before
    if regions := split[1].notna().any():
        rows = own.assign(region=split[0].fillna("").to_numpy(), name=split[1].to_numpy())
    names = list(dict.fromkeys(rows["name"]))
    rows = rows.sort_values("fraction", ascending=False, kind="stable")
    cells = []
    keys = ["fraction", "encoder", "head", "region"]
    for _, part in rows.groupby(keys, sort=False):
        values = {row.name: with_interval(row.value, row.low, row.high) for row in rows_of(part)}
        first = part.iloc[0]
        region = [_region(str(first["region"]))] if regions else []
        model = (f"{first['fraction']:.0%}", model_label(str(first["encoder"]), str(first["head"])), *region)
        counts = (str(int(first["subjects"])), str(int(first["failed"])))
        cells.append((*model, *(values.get(name, "") for name in names), *counts))
    heads = [metric_label(name, unit=found.unit(task), arrow=True) for name in names]
    columns = (
        *("label fraction", "encoder, head", *(["region"] if regions else [])),
        *(*heads, "test subjects", "failed"),
    )
    return Table(
        f"{task_label(task)}: every metric with its 95 % interval. An interval without width belongs to a model that "
        "answers the same in every draw of subjects.",
        columns,
        tuple(cells),
        folded=len(cells) > MOST_ROWS,
    )


def _region(region: str) -> str:
    if not region:
        return "mean of regions"
    return f"{region}, {REGIONS[region]}" if region in REGIONS else region


def _named(answers: list[Answers]) -> dict[str, Answers]:
    """Label of a model to its answers, the trivial one last."""
    ordered = sorted(answers, key=lambda one: trivial(one.head))
    heads = {one.head for one in answers}
    return {model_label(one.encoder, one.head, heads): one for one in ordered if len(one.good)}


def _regression(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure]:
    if models := {name: one.good for name, one in _named(answers).items()}:
        yield scatter_figure(task, models, found.unit(task), found.synthetic_task(task))


def _classification(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure]:
    if models := {name: one.good for name, one in _named(answers).items()}:
        columns = next(iter(models.values())).columns
        classes = tuple(c.removeprefix("output_") for c in columns if c.startswith("output_"))
        yield roc_figure(task, models, classes, found.synthetic_task(task))


def _survival(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure | Text]:
    for model, one in _named(answers).items():
        if trivial(one.head):
            continue
        try:
            cut = threshold(found, one)
            yield survival_figure(task, model, one.good, cut, found.unit(task), found.synthetic_task(task))
        except ValueError as error:
            yield Text(f"{task_label(task)}, {model}: no Kaplan-Meier curves, {error}", "note")


def threshold(found: Artefacts, one: Answers) -> Threshold:
    """Median risk of the training subjects where known (the Cox head puts it at 0), else of the test subjects.

    Known from the column `threshold` of the predictions, or from predictions on the training subjects.
    """
    if "threshold" in one.good and one.good["threshold"].notna().any():
        return Threshold(float(one.good["threshold"].dropna().iloc[0]), "the median of the training subjects", True)
    for other in found.answers:
        same = all(
            getattr(other, name) == getattr(one, name) for name in ("task", "encoder", "head", "fraction", "seed")
        )
        if same and other.split == "train" and other.perturbation == "none":
            return Threshold(float(other.good["output"].median()), "the median of the training subjects", True)
    if plugin_of(one.head) == "cox":
        return Threshold(0.0, "the median of the training subjects, which the Cox head puts at 0", True)
    return Threshold(float(one.good["output"].median()), "the median of these test subjects", False)


def _segmentation(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure | Text]:
    models = _named([one for one in answers if not trivial(one.head)])
    ranked = next((name for name, one in models.items() if plugin_of(one.encoder) != RANDOM), next(iter(models), ""))
    try:
        cases, of = _extremes(found, models, ranked)
        if cases:
            names = label_names(found.tasks[task].regions) if task in found.tasks else {}
            yield segmentation_figure(task, cases, ranked, of, names, found.synthetic_task(task))
    except ValueError as error:
        yield Text(f"{task_label(task)}: segmentations cannot be shown, {error}", "note")


def _extremes(found: Artefacts, models: dict[str, Answers], ranked: str) -> tuple[list[Segmentation], int]:
    """Best, median and worst test case by the mean Dice of one model, and of how many.

    Taken are cases that every model answered and whose scans and label maps are at hand.
    """
    dice = {name: _mean_dice(one) for name, one in models.items()}
    if not dice:
        return [], 0
    order = dice[ranked].sort_values(ascending=False, kind="stable").index
    names = [str(case) for case in order if case in found.cases and all(_shown(models, dice, m, case) for m in models)]
    if not names:
        return [], 0
    ranks = {0: "best", len(names) // 2: "median", len(names) - 1: "worst"} if len(names) > 1 else {0: "only"}
    pictured = []
    for place, rank in sorted(ranks.items()):
        case = found.cases[names[place]]
        volume = read_case(case.scans)
        if volume.label_map is not None:
            maps = {name: read_labels(_label_map(one, case.name), volume) for name, one in models.items()}
            means = {name: float(dice[name][case.name]) for name in models}
            pictured.append(Segmentation(case.name, rank, volume, maps, means))
    return pictured, len(names)


def _mean_dice(one: Answers) -> pd.Series[float]:
    columns = [c for c in one.good.columns if c.startswith("output_") and segmentation_metric(c).name == "dice"]
    return one.good.set_index("case")[columns].mean(axis=1).dropna()


def _shown(models: dict[str, Answers], dice: dict[str, pd.Series[float]], model: str, case: str) -> bool:
    return case in dice[model].index and _label_map(models[model], case).is_file()


def _label_map(one: Answers, case: str) -> Path:
    return one.folder / "label_maps" / f"{case}_dseg.nii.gz"


FIGURES = {
    "regression": _regression,
    "classification": _classification,
    "survival": _survival,
    "segmentation": _segmentation,
}
