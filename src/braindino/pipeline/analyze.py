"""analyze: features -> k-NN with McNemar tests, CKA between encoders, effective rank, site effect. Needs no torch.

A case is represented by the mean of its views. Failed cases are left out; CKA takes the cases that both encoders
have. Nothing here is learned but the site probe, which is cross-validated by subject.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino.pipeline.design import of_task, targets
from braindino.pipeline.leakage import concerned, refuse_pretrained
from braindino.pipeline.pooling import pooled
from braindino.record import read_record, read_table, write_record, write_table
from braindino.stats.comparisons import holm, mcnemar
from braindino.stats.intervals import interval
from braindino.stats.metrics import METRICS
from braindino.stats.names import encoder_name
from braindino.stats.representation import effective_rank, knn_votes, linear_cka, probe
from braindino.tasks import reported
from braindino.types import Features, Task

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
"""The paper's."""
FOLDS = 5
"""Folds of the site probe; sites with fewer subjects are left out."""
TABLES: dict[str, tuple[str, ...]] = {
    "knn": ("encoder", "k", "accuracy", "low", "high", "train_subjects", "test_subjects"),
    "mcnemar": ("a", "b", "k", "only_a", "only_b", "p", "p_holm", "test_subjects"),
    "cka": ("a", "b", "cka", "cases"),
    "encoders": ("encoder", "cases", "failed", "dim", "effective_rank", "site_accuracy", "site_chance", "sites"),
}


@dataclass(frozen=True)
class Analysis:
    """What the features are like before a head is learned."""

    knn: pd.DataFrame
    """Accuracy of the k nearest training subjects' vote, with its 95 % interval over test subjects."""
    mcnemar: pd.DataFrame
    """Exact McNemar test of each pair of encoders at each k, on the first case of every subject that both have; how
    many only one of them told rightly, and p with Holm's correction over all rows."""
    cka: pd.DataFrame
    """Linear CKA of each pair of encoders on the cases that both have."""
    encoders: pd.DataFrame
    """Effective rank, and how well the site can be read off: cross-validated balanced accuracy against 1 / sites."""

    def __str__(self) -> str:
        tables = (getattr(self, name) for name in TABLES)
        return "\n\n".join(table.to_string(index=False) for table in tables if len(table))


def analyze(
    features: Mapping[str, Features], labels: pd.Series[Any] | None, train_subjects: Collection[str]
) -> Analysis:
    """Analyse the features of one or more encoders.

    Args:
        features: name (of the encoder) to features.
        labels: class of each case (index: case name) for k-NN; cases without a label take no part. None: no k-NN.
        train_subjects: whose cases form the memory bank; all other labelled cases are asked.

    Raises:
        ValueError: no features, an encoder without a usable case, or no labelled case to remember or to ask.
    """
    if not features:
        raise ValueError("no features to analyse")
    tables = {name: _subject_table(name, one) for name, one in features.items()}
    knn: list[dict[str, Any]] = []
    right: dict[tuple[str, int], pd.Series[bool]] = {}
    for name, table in tables.items():
        for row, told in _knn_rows(name, *table, labels, set(train_subjects)):
            knn.append(row)
            right[name, row["k"]] = told
    encoders = [_encoder_row(name, *table, features[name]) for name, table in tables.items()]
    cka = [_cka_row(a, b, tables) for a, b in itertools.combinations(tables, 2)]
    frames = zip(TABLES, (knn, _mcnemar_rows(right), cka, encoders), strict=True)
    return Analysis(**{name: pd.DataFrame(rows, columns=list(TABLES[name])) for name, rows in frames})


def labels_of(task: Task) -> pd.Series[Any]:
    """Class of each training case, and of each case that is reported on, by case name.

    Validation cases have none: k-NN chooses nothing, and an encoder may have been pretrained on them.
    """
    cases = (*task.cases_of("train"), *task.cases_of(reported(task)))
    return pd.Series(targets(task, cases), index=[case.name for case in cases])


def _subject_table(name: str, features: Features) -> tuple[pd.DataFrame, np.ndarray]:
    """The encoded cases and their vectors (mean over views, float64)."""
    good = features.cases["status"].to_numpy() == "ok"
    if not good.any():
        raise ValueError(f"{name}: none of the {len(good)} cases was encoded; see the status column of its features")
    return features.cases[good].reset_index(drop=True), np.stack(
        [pooled(one, features.contrasts) for one in features.values[good]]
    )


def _knn_rows(
    name: str, cases: pd.DataFrame, x: np.ndarray, labels: pd.Series[Any] | None, train_subjects: set[str]
) -> Iterator[tuple[dict[str, Any], pd.Series[bool]]]:
    """For each k its row, and whether the first case of each asked subject was told rightly."""
    if labels is None:
        return
    found = cases["case"].map(labels)
    known = found.notna().to_numpy()
    classes, target = np.unique(found[known].astype(str).to_numpy(), return_inverse=True)
    subjects, vectors = cases["subject"].astype(str).to_numpy()[known], x[known]
    train = np.isin(subjects, sorted(train_subjects))
    if train.all() or not train.any():
        raise ValueError(f"{name}: k-NN needs labelled cases to remember ({train.sum()}) and to ask ({(~train).sum()})")
    for k in (k for k in NEIGHBOURS if k <= train.sum()):
        votes = knn_votes(vectors[train], target[train], vectors[~train], k, len(classes))
        got = interval(METRICS["accuracy"], target[~train], votes, subjects[~train])
        row = {
            **{"encoder": name, "k": k, "accuracy": got.value, "low": got.low, "high": got.high},
            **{"train_subjects": len(np.unique(subjects[train])), "test_subjects": got.subjects},
        }
        told = pd.Series(votes.argmax(axis=1) == target[~train], index=subjects[~train])
        yield row, told[~told.index.duplicated()]


def _mcnemar_rows(right: Mapping[tuple[str, int], pd.Series[bool]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for (a, k), (b, other) in itertools.combinations(right, 2):
        if k == other:
            shared = right[a, k].index.intersection(right[b, k].index)
            one, two = right[a, k][shared].to_numpy(bool), right[b, k][shared].to_numpy(bool)
            only = {"only_a": int((one & ~two).sum()), "only_b": int((two & ~one).sum())}
            rows.append({"a": a, "b": b, "k": k, **only, "p": mcnemar(one, two), "test_subjects": len(shared)})
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]) if rows else (), strict=True):
        row["p_holm"] = adjusted
    return rows


def _encoder_row(name: str, cases: pd.DataFrame, x: np.ndarray, features: Features) -> dict[str, Any]:
    sites, subjects = cases["site"].astype(str).to_numpy(), cases["subject"].astype(str).to_numpy()
    large = [s for s in np.unique(sites) if s and len(np.unique(subjects[sites == s])) >= FOLDS]
    chosen = np.isin(sites, large)
    enough = len(large) > 1
    return {
        **{"encoder": name, "cases": len(cases), "failed": len(features.cases) - len(cases), "dim": x.shape[1]},
        "effective_rank": effective_rank(x),
        "site_accuracy": probe(x[chosen], sites[chosen], subjects[chosen], folds=FOLDS) if enough else np.nan,
        **{"site_chance": 1 / len(large) if enough else np.nan, "sites": len(large)},
    }


def _cka_row(a: str, b: str, tables: Mapping[str, tuple[pd.DataFrame, np.ndarray]]) -> dict[str, Any]:
    (cases_a, x), (cases_b, y) = tables[a], tables[b]
    _, rows_a, rows_b = np.intersect1d(cases_a["case"].astype(str), cases_b["case"].astype(str), return_indices=True)
    cka = linear_cka(x[rows_a], y[rows_b]) if len(rows_a) > 1 else np.nan
    return {"a": a, "b": b, "cka": cka, "cases": len(rows_a)}


def analyze_folders(
    folders: Sequence[Path],
    out: Path,
    task: str | None = None,
    root: Sequence[Path | str] = (),
    cohort: str = "bids",
    split: Path | None = None,
    acknowledge: Sequence[str] = (),
) -> Analysis:
    """Analyse features folders and write the analysis to `out`.

    Args:
        folders: made by `encode`, one per encoder, variant and pooling, by which the tables name them.
        out: the analysis folder.
        task: a classification task for k-NN, of whose contrasts the views are taken. None: no k-NN, and all views.
        root: the cohort's folder, or several, as `load_task` takes them.
        cohort: plug-in of folders without a word.
        split: of `braindino split`, in place of the three-way one of seed 0.
        acknowledge: as for `fit`.

    Raises:
        ValueError: two folders of one encoder, variant and pooling, a task that does not classify or has no `root`;
            and as `analyze` and `design.of_task`.
        LeakageError: an encoder was pretrained on subjects that are asked and are not in `acknowledge`.
    """
    from braindino.pipeline.encode import read_features
    from braindino.pipeline.fit import load_task
    from braindino.record import claimed, fingerprint

    read = [read_features(folder) for folder in folders]
    features = {encoder_name(one.encoder, one.variant, one.pooling): one for one in read}
    if len(features) < len(folders):
        raise ValueError(
            f"{len(folders)} folders hold features of {len(features)} encoders only; give one for each encoder, "
            "variant and pooling"
        )
    labels, train = None, set()
    if task is not None:
        if not root:
            raise ValueError(f"task {task!r} needs the cohort's folder: give --root and --cohort")
        question = load_task(task, root, cohort, split=split)
        if question.kind != "classification":
            raise ValueError(f"k-NN finds classes, but {task} is {question.kind}; give a classification task")
        for one in features.values():
            refuse_pretrained(question, one, concerned(question, one, acknowledge))
        features = {name: of_task(question, one) for name, one in features.items()}
        labels = labels_of(question)
        train = {case.subject for case in question.cases_of("train")}
    analysis = analyze(features, labels, train)
    parents = {Path(folder).name: fingerprint(read_record(Path(folder), "encode")) for folder in folders}
    with claimed(out):
        write_analysis(analysis, Path(out), parents)
    return analysis


def write_analysis(analysis: Analysis, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `knn.tsv`, `mcnemar.tsv`, `cka.tsv`, `encoders.tsv` and the record."""
    for name in TABLES:
        write_table(Path(out) / f"{name}.tsv", getattr(analysis, name))
    write_record(Path(out), "analyze", None, parents=parents)


def read_analysis(folder: Path) -> Analysis:
    """Read an analysis folder, verified.

    Raises:
        ValueError: not a finished analysis folder, or a changed file.
    """
    read_record(Path(folder), "analyze")
    text = {"knn": ("encoder",), "mcnemar": ("a", "b"), "cka": ("a", "b"), "encoders": ("encoder",)}
    return Analysis(**{name: read_table(Path(folder) / f"{name}.tsv", text=text[name]) for name in TABLES})
