"""split: a task's split by subject -> a file. Freeze it, publish it, and give it to `fit` and `predict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from braindino.corpus.audit import LeakageError
from braindino.record import read_record, read_table, write_json, write_record, write_table
from braindino.tasks import divided, families_of, share_out, strata_of
from braindino.types import SPLITS, Task

FILE = "split.tsv"
COLUMNS = ("subject", "split", "stratum", "fold", "protocol")
NNUNET = "splits_final.json"


def write_split(
    task: Task, out: Path, *, folds: int = 0, seed: int = 0, about: Mapping[str, Any] | None = None
) -> None:
    """Write `split.tsv` (subject, split, stratum, fold, protocol), `splits_final.json` of nnU-Net and the record.

    `splits_final.json` is written for segmentation: a list of {"train": cases, "val": cases}, without the test cases.
    It has one entry, training and validation; with `folds` it has one for each fold of both together.

    Args:
        task: with its split.
        out: the folder.
        folds: number of folds for cross-validation outside of test, stratified and by family; 0: none.
        seed: of the folds.
        about: anything else for the record (how the split was drawn).

    Raises:
        ValueError: one fold, or more folds than subjects.
    """
    import pandas as pd

    numbers = _folds(task, folds, seed)
    strata = strata_of(task, task.cases)
    rows = [
        (subject, split, str(strata[subject]), str(numbers.get(subject, "n/a")), task.protocol)
        for subject, split in sorted(task.split.items())
    ]
    write_table(Path(out) / FILE, pd.DataFrame(rows, columns=list(COLUMNS)))
    if task.kind == "segmentation":
        write_json(Path(out) / NNUNET, nnunet_splits(task, numbers))
    config = {"task": task.name, "cohort": task.cohort, "protocol": task.protocol, "folds": folds, "seed": seed}
    facts = {str(split): list(task.split.values()).count(split) for split in SPLITS}
    write_record(Path(out), "split", config | dict(about or {}), facts=facts)


def read_split(path: Path, task: Task) -> Task:
    """The task with the split and protocol of a file that `write_split` wrote.

    Args:
        path: `split.tsv`, or its folder, whose record is then verified.
        task: on the same subjects.

    Raises:
        ValueError: no such table, a column or a split that does not exist, or other subjects than those of the task.
        LeakageError: a subject or a family on two sides.
    """
    path = Path(path)
    if path.is_dir():
        read_record(path, "split")
        path = path / FILE
    table = read_table(path, text=COLUMNS)
    needed = ("subject", "split", "protocol")
    if absent := [name for name in needed if name not in table.columns]:
        raise ValueError(f"{path} lacks the column {absent[0]!r}; expected {', '.join(needed)}")
    protocols = sorted(set(table["protocol"]))
    if len(protocols) != 1:
        raise ValueError(f"{path} has the protocols {', '.join(protocols) or 'none'}; expected one in every row")
    split: dict[str, Any] = {}
    for subject, side in zip(table["subject"], table["split"], strict=True):
        if side not in SPLITS:
            raise ValueError(f"{path}: the split of {subject} is {side!r}, expected one of {', '.join(SPLITS)}")
        if split.setdefault(subject, side) != side:
            raise LeakageError(f"{path} has {subject} in {split[subject]} and in {side}; a subject is in one split")
    found = divided(task, protocols[0], 0)
    _same_subjects(path, set(split), set(found.split))
    _one_side(path, split, families_of(found.cases))
    return replace(found, split=dict(sorted(split.items())))


def nnunet_splits(task: Task, folds: Mapping[str, int]) -> list[dict[str, list[str]]]:
    """The content of nnU-Net's `splits_final.json`: case names of train and val, by fold (see `write_split`)."""
    inside = [case for case in task.cases if task.split[case.subject] != "test"]
    held = {case.name: folds.get(case.subject, int(task.split[case.subject] == "train")) for case in inside}
    numbers = sorted(set(folds.values())) or [0]
    return [
        {
            "train": sorted(name for name, fold in held.items() if fold != number),
            "val": sorted(name for name, fold in held.items() if fold == number),
        }
        for number in numbers
    ]


def _folds(task: Task, count: int, seed: int) -> dict[str, int]:
    """Fold of each subject outside of test."""
    inside = {s: stratum for s, stratum in strata_of(task, task.cases).items() if task.split[s] != "test"}
    if count == 0:
        return {}
    if not 2 <= count <= len(inside):
        raise ValueError(f"folds is {count}; expected 0 (none), or 2 to {len(inside)}, the subjects outside of test")
    return share_out(inside, [1 / count] * count, seed, families_of(task.cases))


def _same_subjects(path: Path, named: set[str], needed: set[str]) -> None:
    for what, names in (("names", named - needed), ("lacks", needed - named)):
        if names:
            raise ValueError(
                f"{path} {what} {len(names)} subjects that the task {'lacks' if what == 'names' else 'has'} "
                f"({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''}); it is of another task or "
                "another cohort, or the cohort has changed: make the split again"
            )


def _one_side(path: Path, split: Mapping[str, str], families: Mapping[str, str]) -> None:
    sides: dict[str, dict[str, str]] = {}
    for subject, family in families.items():
        sides.setdefault(family, {}).setdefault(split[subject], subject)
    if torn := [family for family, found in sides.items() if len(found) > 1]:
        where = " and ".join(f"{subject} in {side}" for side, subject in sides[torn[0]].items())
        raise LeakageError(f"{path} tears the family {torn[0]} apart: {where}; keep relatives in one split")
