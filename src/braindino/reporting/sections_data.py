"""Sections on what went in (the corpus has its own file): the tasks, some scans, the training runs, the features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from braindino.layouts.labels import SCHEMES
from braindino.record import fingerprint
from braindino.reporting.artefacts import Artefacts, is_synthetic_case, rows_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_scans import planes_figure, similarity_figure
from braindino.reporting.figures_training import training_figure
from braindino.reporting.names import encoder_label, task_label
from braindino.reporting.page import (
    MOST_ROWS,
    Section,
    Table,
    Text,
    counted,
    number,
    table_of,
    with_interval,
    without_folders,
)
from braindino.types import SPLITS, Case, Task
from braindino.volume.brain import brain_mask
from braindino.volume.io import read_case

SCANS_OF_A_KIND = 3
"""At most so many real and so many synthetic cases are pictured."""


def tasks_section(found: Artefacts) -> Section:
    """What is asked of whom: subjects in each split, and whether a test subject was pretrained on."""
    blocks: list[Text | Table | Figure] = []
    if found.tasks:
        rows = tuple(_task_row(task) for task in found.tasks.values())
        columns = ("task", "what is predicted", "contrasts", *SPLITS, "task of the paper")
        blocks.append(Table("Subjects of each task; nobody is in two splits of a task.", columns, rows))
    if words := leakage(found):
        blocks.append(Text(words))
    synthetic = any(found.synthetic_task(task) for task in found.tasks) or (bool(blocks) and found.synthetic_results)
    return Section("Tasks", tuple(blocks), synthetic)


def _task_row(task: Task) -> tuple[str, ...]:
    what = " and ".join(task.target) or f"regions {', '.join(task.regions)}"
    unit = f" ({', '.join(task.classes) or task.unit})" if task.target else ""
    sizes = (str(len({case.subject for case in task.cases_of(split)})) for split in SPLITS)
    source = task.source if task.protocol == "three_way" else f"{task.source}; protocol {task.protocol}"
    return (task_label(task.name), what.replace("_", " ") + unit, ", ".join(task.contrasts), *sizes, source)


def pretrained_people(found: Artefacts) -> set[str] | None:
    """Cohort/subject of everybody whose slices a run was trained on; None where the records do not tell.

    They tell where the corpus is at hand and every run was made from it.
    """
    runs = [found.records[f"run {name}"] for name in found.logs]
    if found.corpus is None or not runs:
        return None
    ours = fingerprint(found.records["corpus"])
    if any(run["parents"].get("corpus") != ours for run in runs):
        return None
    unseen = (set(run["config"]["exclude"]) | set(run.get("facts", {}).get("held_out", ())) for run in runs)
    return set().union(*(found.corpus.people - names for names in unseen))


def leakage(found: Artefacts) -> str:
    """Whether test subjects were pretrained on, by their names; "" where the records do not tell."""
    people = pretrained_people(found)
    names = {str(name) for one in found.answers if one.reported for name in one.table["case"]}
    cases = [found.cases[name] for name in names if name in found.cases]
    tested = {f"{scan.cohort}/{case.subject}" for case in cases for scan in case.scans}
    if people is None or not tested:
        return ""
    if both := sorted(tested & people):
        more = f" and {len(both) - 5} more" if len(both) > 5 else ""
        return (
            f"LEAKAGE: the encoder was pretrained on slices of {counted(len(both), 'test subject')} "
            f"({', '.join(both[:5])}{more}), without their labels. Results on them are not those of new subjects."
        )
    return (
        f"None of the {len(tested)} test subjects (of any task) is among the {len(people)} subjects whose slices the "
        "encoder was pretrained on. Training and validation subjects of a task may be, without their labels."
    )


def scans_section(found: Artefacts) -> Section:
    """A few cases in three planes with the brain mask that the recipe uses, real ones first."""
    blocks: list[Text | Table | Figure] = []
    for case in chosen_cases(found):
        try:
            volume = read_case(case.scans)
            mask, told = brain_mask(volume)
        except ValueError as error:
            blocks.append(Text(f"{case.name} cannot be shown: {without_folders(str(error))}", "note"))
            continue
        label = "synthetic subject" if is_synthetic_case(case) else "real image"
        group = _group(case)
        names = SCHEMES["brats2023"].values if group == "glioma" else {}
        blocks.append(planes_figure(case.name, f"{label}{f', {group}' if group else ''}", volume, mask, told, names))
    if blocks:
        blocks.insert(
            0, Text("Pictures of whole heads can show a face: pass this page on only as the cohort's terms allow.")
        )
    return Section("Scans", tuple(blocks))


def chosen_cases(found: Artefacts) -> list[Case]:
    """Real cases first, then synthetic ones of as many different groups as there are."""
    real = [case for case in found.cases.values() if not is_synthetic_case(case)]
    made = [case for case in found.cases.values() if is_synthetic_case(case)]
    groups = list({_group(case): case for case in reversed(made)}.values())[::-1]
    rest = [case for case in made if case not in groups]
    return real[:SCANS_OF_A_KIND] + (groups + rest)[:SCANS_OF_A_KIND]


def _group(case: Case) -> str:
    return str(case.participant.get("group") or case.participant.get("diagnosis") or "")


MONITORS = {
    "target_entropy": "entropy of the teacher's targets (nats)",
    "mean_target_entropy": "entropy of their mean (nats)",
    "prototypes_used": "prototypes chosen in a batch",
    "cls_cosine": "cosine between CLS tokens of different samples",
    "effective_rank": "effective rank of CLS tokens",
    "patch_cosine": "cosine between patches of one crop",
    "knn_cls": "k-NN probe of held-out subjects on the CLS token",
}
"""Entry of the log to what it is, for those that a collapsed run shows."""


def training_section(found: Artefacts) -> Section:
    """Losses and monitors of each run: where they began and ended, and their curves."""
    blocks: list[Text | Table | Figure] = []
    if found.logs:
        blocks.append(_monitor_table(found))
    for name, log in found.logs.items():
        config = found.records[f"run {name}"]["config"]
        blocks.append(training_figure(name, log, config, found.synthetic_corpus))
    return Section("Training", tuple(blocks), found.synthetic_corpus)


def _monitor_table(found: Artefacts) -> Table:
    configs = [found.records[f"run {name}"]["config"] for name in found.logs]
    levels = dict.fromkeys(f"{math.log(config['dino_head']['prototypes']):.2f}" for config in configs)
    widths = dict.fromkeys(str(config["model"]["dim"]) for config in configs)
    signs = {
        "target_entropy": f"at ln K = {' or '.join(levels)}, or 0",
        "mean_target_entropy": "falls to that of each target",
        "effective_rank": f"1 (of {' or '.join(widths)})",
        "knn_cls": _trivial(found),
    }
    rows = tuple(
        (what, *(_first_to_last(log, entry) for log in found.logs.values()), signs.get(entry, "1"))
        for entry, what in MONITORS.items()
        if any(entry in line for log in found.logs.values() for line in log)
    )
    heads = (f"{name}: first → last tenth" for name in found.logs)
    return Table(
        "Signs of collapse: medians over the first and the last tenth of the steps.",
        ("monitor", *heads, "in a collapsed run"),
        rows,
    )


def _trivial(found: Artefacts) -> str:
    """The probe's score without features."""
    values = [line["knn_trivial"] for log in found.logs.values() for line in log if "knn_trivial" in line]
    return f"{' or '.join(dict.fromkeys(number(value) for value in values))} (known without features)"


def _first_to_last(log: Sequence[Mapping[str, Any]], entry: str) -> str:
    values = np.array([float(line[entry]) for line in log if entry in line])
    values, tenth = values[np.isfinite(values)], max(1, len(values) // 10)
    if not len(values):
        return ""
    return f"{number(float(np.median(values[:tenth])))} → {number(float(np.median(values[-tenth:])))}"


def similarity_section(found: Artefacts) -> Section:
    """Patch similarity maps per encoder."""
    maps = found.similarity
    if maps is None:
        return Section("Patch similarity", ())
    named = {encoder_label(encoder): stack for encoder, stack in maps.maps.items()}
    figure = similarity_figure(maps.image, maps.points, named, found.synthetic_results)
    return Section("Patch similarity", (figure,), found.synthetic_results)


def analysis_section(found: Artefacts) -> Section:
    """k-NN, CKA, effective rank and site probe."""
    return Section("Analysis", tuple(_analysis_tables(found)), found.synthetic_results)


CAPTIONS = {
    "knn": "k nearest neighbours on frozen features: share of the asked subjects classified rightly, with its 95 % "
    "interval. Remembered are the training subjects of a task, asked those who are reported. Nothing is learned, so "
    "it says what the features hold by themselves; with large k it tends to the share of the most frequent class.",
    "mcnemar": "Exact McNemar test of two encoders' neighbours: subjects whom only one told rightly, p, and p with "
    "Holm's correction over all rows of this table.",
    "cka": "Linear CKA between encoders: 1 for features equal up to rotation and scale, 0 for unrelated ones.",
    "encoders": "Effective rank (how many directions the features use) and how well a linear probe reads the site off "
    "them: at site chance there is no site effect, well above it the features carry the scanner.",
}
COLUMNS = {
    **{"train_subjects": "remembered subjects", "test_subjects": "asked subjects", "p_holm": "Holm-adjusted p"},
    **{"only_a": "only a is right", "only_b": "only b is right"},
}


def _analysis_tables(found: Artefacts) -> Iterator[Table]:
    for name, table in found.analysis.items():
        if not len(table):
            continue
        if "low" in table:
            spans = [with_interval(row.accuracy, row.low, row.high) for row in rows_of(table)]
            table = table.assign(accuracy=spans).drop(columns=["low", "high"])
        names = {column: table[column].map(encoder_label) for column in ("encoder", "a", "b") if column in table}
        told = table.assign(**names).rename(columns=COLUMNS)
        yield table_of(told, CAPTIONS[name], folded=len(told) > MOST_ROWS)
