"""The summary: what came out in short, what was run, the headline numbers, one honest paragraph per task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from braindino.reporting.artefacts import Artefacts, reported_rows, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.names import (
    BASELINES,
    CLINICAL,
    ENCODERS,
    PRIOR,
    RANDOM,
    metric_label,
    model_label,
    task_label,
    trivial,
)
from braindino.reporting.page import MOST_ROWS, Section, Table, Text, counted, with_interval
from braindino.reporting.sections_data import pretrained_people
from braindino.reporting.standings import Standing, standings, standings_sentence, standings_table
from braindino.reporting.verdicts import contests, headline_metrics, in_short, same_for_everybody, verdict
from braindino.stats.names import plugin_of

if TYPE_CHECKING:
    import pandas as pd

Blocks = list[Text | Table | Figure]

TWO_WAY = (
    "PROTOCOL OF THE PAPER: training and validation subjects only. The numbers are of the subjects on which settings "
    "were chosen, so they are too good, and are here to be compared with published ones. Where this page says test "
    "subjects, these validation subjects are meant."
)
MOST_FLAT = 4
"""Models that say the same for everybody, of which a paragraph tells; the others stand in a table."""

HOW_TO_READ = Table(
    "How to read this page.",
    ("what stands here", "what it means"),
    (
        (RANDOM.replace("_", " "), "the same network with random weights, never trained: what pretraining must beat"),
        (ENCODERS[CLINICAL], "a head on age and sex alone (without the target itself): no image at all"),
        (
            PRIOR,
            "the trivial answer: class frequencies, the mean of the training subjects, one risk for everybody, "
            "no lesion anywhere",
        ),
        ("value [low, high]", "metric on the test subjects with its 95 % bootstrap interval (BCa) over subjects"),
        ("n, subjects", "test subjects; nobody is in two splits of a task"),
        ("40 %, 100 %", "label fraction: the share of the training subjects that a head learned from"),
        (
            "no difference shown",
            "the interval holds 0, or p is 0.05 or more after Holm's correction over all comparisons of the task at "
            "that label fraction; it is not equality",
        ),
        ("synthetic", "simulated from the anatomy of real heads; no evidence of performance in patients"),
    ),
)


def summary_section(found: Artefacts, notes: Sequence[str]) -> Section:
    """What was run and what came out, without claiming more than the paired intervals do."""
    blocks: Blocks = [Text(TWO_WAY, "note")] if found.two_way else []
    scored = found.metrics is not None and found.comparisons is not None
    if found.comparisons is not None and (words := in_short(contests(plain(found.comparisons)))):
        blocks.append(Text(words, "note"))
    if scored and (leaders := _leaders(found)):
        blocks += [Text(standings_sentence(leaders), "note"), standings_table(leaders, _units(found))]
    blocks += [Text(sentence) for sentence in _what_was_run(found)]
    blocks += [Text(note, "note") for note in notes]
    if scored:
        blocks += _numbers(found)
        blocks.append(HOW_TO_READ)
    return Section("Summary", tuple(blocks), found.synthetic_results)


def headlines(found: Artefacts) -> dict[str, str]:
    """Task to headline metric."""
    assert found.metrics is not None and found.comparisons is not None
    return headline_metrics(found.metrics, found.comparisons, [one.table for one in found.answers])


def of_headline(found: Artefacts, table: pd.DataFrame) -> pd.DataFrame:
    """Those rows of a table with columns task and metric that are in the task's headline metric."""
    named = headlines(found)
    return table[[named[task] == metric for task, metric in zip(table["task"], table["metric"], strict=True)]]


def _units(found: Artefacts) -> dict[str, str]:
    return {task: found.unit(task) for task in found.tasks}


def _leaders(found: Artefacts) -> list[Standing]:
    """The best models, where more than one encoder beside the baselines took part."""
    assert found.metrics is not None and found.comparisons is not None
    rows = of_headline(found, largest_fraction(plain(found.metrics)))
    if len({name for name in rows["encoder"] if plugin_of(name) not in BASELINES}) < 2:
        return []
    return standings(rows, contests(largest_fraction(plain(found.comparisons))))


def _numbers(found: Artefacts) -> Iterator[Text | Table]:
    assert found.metrics is not None and found.comparisons is not None
    full, named = largest_fraction(plain(found.metrics)), headlines(found)
    rows = of_headline(found, full)
    if len(rows):
        yield _headline_table(found, rows)
    duels = contests(largest_fraction(plain(found.comparisons)))
    for task in dict.fromkeys(rows["task"]):
        yield Text(verdict(task, named[task], full, duels, unit=found.unit(task)))
    answered = [one for answers in found.headline_answers().values() for one in answers]
    if flat := [words for one in answered if (words := same_for_everybody(one, found.unit(one.task)))]:
        yield from (Text(words) for words in flat[:MOST_FLAT])
        if len(flat) > MOST_FLAT:
            more = tuple((words,) for words in flat[MOST_FLAT:])
            yield Table(f"{counted(len(more), 'more model')} that say the same for everybody", ("what",), more, True)


def _what_was_run(found: Artefacts) -> Iterator[str]:
    if found.corpus is not None:
        scans = found.corpus.scans
        cohorts = ", ".join(sorted(scans["cohort"].unique()))
        yield (
            f"The corpus holds {scans['slices'].sum()} axial slices of {counted(len(found.corpus.people), 'subject')} "
            f"(cohorts: {cohorts})."
        )
    if found.logs:
        runs = ", ".join(f"{name} ({len(log)} steps)" for name, log in found.logs.items())
        people = pretrained_people(found)
        on = "" if people is None else f" on slices of {counted(len(people), 'subject')}"
        yield f"Pretraining: {runs}{on}."
    if found.metrics is not None:
        tasks = ", ".join(task_label(task) for task in dict.fromkeys(found.metrics["task"]))
        yield (
            f"Tasks: {tasks}. All numbers are from subjects in no training or validation split of the task; "
            "in brackets are 95 % intervals, by bootstrap over subjects."
        )


def _headline_table(found: Artefacts, rows: pd.DataFrame) -> Table:
    cells = tuple(
        (
            f"{task_label(row.task)} (synthetic)" if found.synthetic_task(row.task) else task_label(row.task),
            metric_label(row.metric, unit=found.unit(row.task), arrow=True),
            model_label(row.encoder, row.head),
            with_interval(row.value, row.low, row.high),
            str(row.subjects),
            str(row.failed),
        )
        for row in rows_of(rows)
    )
    columns = ("task", "metric", "encoder, head", "value [95 % interval]", "test subjects", "failed cases")
    return Table(
        "Headline metric of every model, trained on the largest fraction (↑ higher is better, ↓ lower is better).",
        columns,
        cells,
        folded=len(cells) > MOST_ROWS,
    )


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the reported split without perturbation, the trivial answer last within each task."""
    rows = reported_rows(table[table["perturbation"] == "none"])
    if "head" not in rows:
        return rows
    place = {task: n for n, task in enumerate(dict.fromkeys(rows["task"]))}
    return rows.iloc[np.lexsort([rows["head"].map(trivial).astype(bool), rows["task"].map(place)])]


def largest_fraction(table: pd.DataFrame) -> pd.DataFrame:
    """Rows at the largest fraction of their task."""
    return table[table["fraction"] == table.groupby("task")["fraction"].transform("max")]
