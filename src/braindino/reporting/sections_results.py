"""Sections on what came out: the summary with its verdicts, and the results of each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from braindino.reporting.artefacts import Answers, Artefacts, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_results import (
    Threshold,
    forest_figure,
    metric_label,
    roc_figure,
    scatter_figure,
    survival_figure,
)
from braindino.reporting.figures_scans import Segmentation, segmentation_figure
from braindino.reporting.page import Section, Table, Text, counted, table_of, with_interval
from braindino.reporting.verdicts import PRIOR, headline_metrics, verdict
from braindino.stats.intervals import interval
from braindino.stats.metrics import METRICS
from braindino.volume.io import read_case, read_labels

if TYPE_CHECKING:
    import pandas as pd

Blocks = list[Text | Table | Figure]


def summary_section(found: Artefacts, notes: Sequence[str]) -> Section:
    """What was run, the headline numbers, one honest paragraph per task."""
    blocks: Blocks = [Text(sentence) for sentence in _what_was_run(found)]
    blocks += [Text(note, "note") for note in notes]
    if found.metrics is not None and found.comparisons is not None:
        metrics, compared = _plain(found.metrics), _plain(found.comparisons)
        named = headlines(found)
        full = _largest_fraction(metrics)
        rows = full[[named[task] == metric for task, metric in zip(full["task"], full["metric"], strict=True)]]
        if len(rows):
            blocks.append(_headline_table(found, rows))
        for task in dict.fromkeys(rows["task"]):
            blocks.append(Text(verdict(task, named[task], full, _largest_fraction(compared))))
    return Section("Summary", tuple(blocks), found.synthetic_results)


def headlines(found: Artefacts) -> dict[str, str]:
    """Task to headline metric."""
    assert found.metrics is not None and found.comparisons is not None
    return headline_metrics(found.metrics, found.comparisons, [one.table for one in found.answers])


def _what_was_run(found: Artefacts) -> Iterator[str]:
    if found.corpus is not None:
        index = found.corpus.index
        people = (index["cohort"] + "/" + index["subject"]).nunique()
        cohorts = ", ".join(sorted(index["cohort"].unique()))
        yield f"The corpus holds {len(index)} axial slices of {counted(people, 'subject')} (cohorts: {cohorts})."
    if found.logs:
        runs = ", ".join(f"{name} ({len(log)} steps)" for name, log in found.logs.items())
        yield f"Pretraining: {runs}."
    if found.metrics is not None:
        tasks = list(dict.fromkeys(found.metrics["task"]))
        yield (
            f"Tasks: {', '.join(tasks)}. All numbers are from subjects in no training or validation split of the task; "
            "in brackets are 95 % intervals, by bootstrap over subjects."
        )


def _headline_table(found: Artefacts, rows: pd.DataFrame) -> Table:
    cells = tuple(
        (
            f"{row.task} (synthetic)" if found.synthetic_task(row.task) else str(row.task),
            metric_label(row.metric, arrow=True),
            f"{row.encoder}/{row.head}",
            with_interval(row.value, row.low, row.high),
            str(row.subjects),
            str(row.failed),
        )
        for row in rows_of(rows)
    )
    columns = ("task", "metric", "encoder/head", "value [95 % interval]", "subjects", "failed cases")
    return Table(
        "Headline metric of every model, trained on the largest fraction (↑ higher is better, ↓ lower is better).",
        columns,
        cells,
    )


def results_section(found: Artefacts) -> Section:
    """Tables and figures of every task."""
    blocks: Blocks = []
    if found.metrics is not None and found.comparisons is not None:
        metrics = _plain(found.metrics)
        if len(metrics):
            named = headlines(found)
            blocks.append(_forest(metrics, named))
        blocks += [_task_table(metrics, task) for task in dict.fromkeys(metrics["task"])]
        blocks += list(_folded_tables(found.metrics, found.comparisons))
    for task, answers in found.headline_answers().items():
        blocks += list(FIGURES[answers[0].kind](found, task, answers))
    return Section("Results", tuple(blocks), found.synthetic_results)


def _forest(metrics: pd.DataFrame, named: dict[str, str]) -> Figure:
    rows = metrics.assign(model=metrics["encoder"] + "/" + metrics["head"])
    rows = rows[[named[task] == metric for task, metric in zip(rows["task"], rows["metric"], strict=True)]]
    return forest_figure(rows, {task: named[task] for task in dict.fromkeys(rows["task"])})


def _task_table(metrics: pd.DataFrame, task: str) -> Table:
    """One row per model and fraction, one column per metric."""
    own = metrics[metrics["task"] == task]
    names = list(dict.fromkeys(own["metric"]))
    rows = []
    for (fraction, encoder, head), part in own.groupby(["fraction", "encoder", "head"], sort=False):
        values = {row.metric: with_interval(row.value, row.low, row.high) for row in rows_of(part)}
        first = part.iloc[0]
        counts = (str(int(first["subjects"])), str(int(first["failed"])))
        rows.append((f"{fraction:.0%}", f"{encoder}/{head}", *counts, *(values.get(name, "") for name in names)))
    columns = ("training subjects", "encoder/head", "test subjects", "failed", *(n.replace("_", " ") for n in names))
    return Table(f"{task}: every metric with its 95 % interval.", columns, tuple(rows))


def _folded_tables(metrics: pd.DataFrame, compared: pd.DataFrame) -> Iterator[Table]:
    if len(compared):
        columns = [name for name in compared.columns if name not in ("perturbation", "severity", "split")]
        yield table_of(_plain(compared)[columns], "Paired comparisons (a minus b), Holm-adjusted", folded=True)
    perturbed = metrics[(metrics["perturbation"] != "none") & (metrics["split"] == "test")]
    if len(perturbed):
        columns = ["task", "encoder", "head", "fraction", "perturbation", "severity", "metric", "value", "low", "high"]
        yield table_of(perturbed[columns], "Metrics on perturbed test scans", folded=True)


def _regression(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure]:
    models = {one.model: one.good for one in answers if len(one.good)}
    if models:
        yield scatter_figure(task, models)


def _classification(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure]:
    models = {one.model: one.good for one in answers if len(one.good)}
    if models:
        columns = next(iter(models.values())).columns
        yield roc_figure(task, models, tuple(c.removeprefix("output_") for c in columns if c.startswith("output_")))


def _survival(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure | Text]:
    for one in answers:
        if one.head == PRIOR:
            continue
        try:
            yield survival_figure(task, one.model, one.good, threshold(found, one))
        except ValueError as error:
            yield Text(f"{task}, {one.model}: no Kaplan-Meier curves, {error}", "note")


def threshold(found: Artefacts, one: Answers) -> Threshold:
    """Median risk of the training subjects where known (the Cox head puts it at 0), else of the test subjects."""
    for other in found.answers:
        same = all(
            getattr(other, name) == getattr(one, name) for name in ("task", "encoder", "head", "fraction", "seed")
        )
        if same and other.split == "train" and other.perturbation == "none":
            return Threshold(float(other.good["output"].median()), "the median of the training subjects", True)
    if one.head == "cox":
        return Threshold(0.0, "the median of the training subjects, which the Cox head puts at 0", True)
    return Threshold(float(one.good["output"].median()), "the median of these test subjects", False)


def _segmentation(found: Artefacts, task: str, answers: list[Answers]) -> Iterator[Figure | Table | Text]:
    yield _region_table(task, answers)
    for one in answers:
        try:
            if pictured := _extremes(found, one):
                yield segmentation_figure(task, one.model, pictured)
        except ValueError as error:
            yield Text(f"{task}, {one.model}: segmentations cannot be shown, {error}", "note")


def _region_table(task: str, answers: list[Answers]) -> Table:
    """Dice and HD95 of every region, mean over cases with the interval over subjects."""
    rows = []
    for one in answers:
        good = one.good.dropna(axis=1, how="all")
        regions = [c for c in good.columns if c.startswith("output_") and c.endswith("_dice")]
        for column in regions if len(good) else []:
            region = column.removeprefix("output_").removesuffix("_dice")
            cells = [_mean_of(good, f"output_{region}_{name}", name) for name in ("dice", "hd95_mm")]
            rows.append((one.model, region, *cells, str(good["subject"].nunique())))
    columns = ("encoder/head", "region", "Dice", "HD95 (mm)", "subjects")
    return Table(f"{task}: overlap and surface distance of each region, mean over test cases.", columns, tuple(rows))


def _mean_of(good: pd.DataFrame, column: str, metric: str) -> str:
    if column not in good:
        return ""
    found = interval(METRICS[metric], np.zeros(len(good)), good[[column]].to_numpy(float), good["subject"].tolist())
    return with_interval(found.value, found.low, found.high)


def _extremes(found: Artefacts, one: Answers) -> list[Segmentation]:
    """Best, median and worst test case by mean Dice, of those whose scans and label maps are at hand."""
    good = one.good
    columns = [c for c in good.columns if c.startswith("output_") and c.endswith("_dice")]
    means = good.set_index("case")[columns].mean(axis=1).dropna().sort_values(ascending=False, kind="stable")
    maps = {case: one.folder / "label_maps" / f"{case}_dseg.nii.gz" for case in means.index if case in found.cases}
    names = [case for case, path in maps.items() if path.is_file()]
    if not names:
        return []
    ranks = {0: "best", len(names) // 2: "median", len(names) - 1: "worst"} if len(names) > 1 else {0: "only"}
    pictured = []
    for place, rank in sorted(ranks.items()):
        case = found.cases[names[place]]
        volume = read_case(case.scans)
        if volume.label_map is not None:
            predicted = read_labels(maps[case.name], volume)
            pictured.append(Segmentation(case.name, rank, float(means[case.name]), volume, predicted))
    return pictured


FIGURES = {
    "regression": _regression,
    "classification": _classification,
    "survival": _survival,
    "segmentation": _segmentation,
}


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the test split without perturbation, the trivial answer last within each task."""
    rows = table[(table["perturbation"] == "none") & (table["split"] == "test")]
    if "head" not in rows:
        return rows
    place = {task: n for n, task in enumerate(dict.fromkeys(rows["task"]))}
    return rows.iloc[np.lexsort([rows["head"] == PRIOR, rows["task"].map(place)])]


def _largest_fraction(table: pd.DataFrame) -> pd.DataFrame:
    """Rows at the largest fraction of their task."""
    return table[table["fraction"] == table.groupby("task")["fraction"].transform("max")]
