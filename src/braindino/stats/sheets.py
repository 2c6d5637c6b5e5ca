"""Predictions tables as aligned arrays, refused where they do not fit together.

A sheet is one task on one split of one protocol under one perturbation: every model answers the same cases, in the
same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from braindino.stats.censoring import Curves
from braindino.stats.intervals import check_subjects
from braindino.types import Kind

SHEET = ("task", "kind", "metric", "perturbation", "severity", "protocol", "split")
THREE_WAY = "three_way"
MODEL = ("encoder", "head", "fraction")
TARGETS: dict[str, tuple[str, ...]] = {
    "classification": ("target",),
    "regression": ("target",),
    "survival": ("time", "event"),
    "segmentation": (),
}
CURVE = r"survival_\d+(\.\d+)?(e[+-]?\d+)?"
"""Columns that a survival table may have: the probability of no event up to that time."""
LEAST_LATER = 5
"""Cases of the sheet that must outlive a moment for survival curves to be scored there: fewer, and many draws have
nobody left to score."""
ABOUT = ("family", "site", "sex", "age", "contrasts")
"""Columns that a table may have besides: who is related, and by what cases can be told apart."""


@dataclass(frozen=True)
class Model:
    """The answers of one encoder with one head at one fraction, once per seed."""

    encoder: str
    head: str
    fraction: float
    seeds: tuple[int, ...]
    outputs: tuple[np.ndarray, ...]
    """Per seed: (case, output) for classification and segmentation, (case,) else; NaN where the case failed."""
    ok: Bool[np.ndarray, " case"]
    """Cases that no seed failed on."""
    thresholds: tuple[float, ...] = ()
    """Per seed, where the table has a column `threshold`: the median risk of the training subjects."""
    curves: tuple[Curves, ...] = ()
    """Per seed, where the table has columns `survival_<time>` of every seed: at that seed's own times."""

    @property
    def name(self) -> str:
        """encoder/head."""
        return f"{self.encoder}/{self.head}"


@dataclass(frozen=True)
class Sheet:
    """One task, protocol, split and perturbation with the answers of all models."""

    key: dict[str, Any]
    subjects: Shaped[np.ndarray, " case"]
    target: np.ndarray
    """Class index (case,), value (case,), (case, 2) = time and event, or (case, 0) for segmentation."""
    outputs: tuple[str, ...]
    """Names of the output columns, without `output_`."""
    models: tuple[Model, ...]
    about: pd.DataFrame
    """One row per case with those of `ABOUT` that the table has."""

    @property
    def clusters(self) -> Shaped[np.ndarray, " case"]:
        """What is drawn together: the family where the table names one, else the subject."""
        if "family" not in self.about:
            return self.subjects
        family = self.about["family"].astype(object).where(self.about["family"].notna(), "").astype(str).to_numpy()
        own = [f"family {name}" if name else f"subject {one}" for name, one in zip(family, self.subjects, strict=True)]
        return np.asarray(own)

    @property
    def kind(self) -> Kind:
        """Kind of the task."""
        kind: Kind = self.key["kind"]
        return kind


def read_sheets(table: pd.DataFrame) -> Iterator[Sheet]:
    """Cut a predictions table into sheets, in order of their keys.

    Rows without a protocol are of the three-way one: tables of earlier versions knew no other.

    Raises:
        ValueError: a missing column or subject id, an unknown kind, a case twice or missing for a model, a case
            with two targets, an answer that is not finite, or a survival probability not within 0 and 1, though its
            status is ok.
    """
    told = table["protocol"].fillna(THREE_WAY) if "protocol" in table.columns else THREE_WAY
    table = table.assign(protocol=told)
    missing = [name for name in (*SHEET, *MODEL, "seed", "subject", "case", "status") if name not in table.columns]
    if missing:
        raise ValueError(f"the predictions table lacks the column {missing[0]!r}")
    if table.empty:
        raise ValueError("the predictions table is empty")
    unknown = set(table["kind"]) - set(TARGETS)
    if unknown:
        raise ValueError(f"unknown kind {sorted(unknown)[0]!r}; known: {', '.join(TARGETS)}")
    check_subjects(table["subject"].to_numpy(object))
    _check_coverage(table)
    for key, rows in table.groupby(list(SHEET), sort=True):
        yield _sheet(dict(zip(SHEET, key, strict=True)), rows)


def _check_coverage(table: pd.DataFrame) -> None:
    """On one task, protocol and split, every run answers every case once, also under perturbations."""
    run = ["perturbation", "severity", *MODEL, "seed"]
    for (task, _, split), rows in table.groupby(["task", "protocol", "split"]):
        expected = set(rows["case"])
        for name, own in rows.groupby(run):
            who = f"{name[2]}/{name[3]} (fraction {name[4]:g}, seed {name[5]}, {name[0]} {name[1]})"
            twice = own["case"][own["case"].duplicated()]
            if len(twice):
                raise ValueError(f"case {twice.iloc[0]!r} of task {task}, {split} appears twice for {who}")
            absent = sorted(expected - set(own["case"]))
            if absent:
                raise ValueError(
                    f"case {absent[0]!r} of task {task}, {split} is missing for {who}, which covers {len(own)} of "
                    f"{len(expected)} cases; predict it, or keep its row with the reason why it failed"
                )


def _sheet(key: dict[str, Any], rows: pd.DataFrame) -> Sheet:
    columns = ["subject", *TARGETS[key["kind"]]]
    absent = [name for name in columns if name not in rows.columns]
    if absent:
        raise ValueError(f"task {key['task']} is {key['kind']}, but its predictions lack the column {absent[0]!r}")
    cases = rows[["case", *columns]].drop_duplicates().sort_values("case", ignore_index=True)
    twice = cases["case"][cases["case"].duplicated()]
    if len(twice):
        raise ValueError(f"case {twice.iloc[0]!r} of task {key['task']} has different subjects or targets in its rows")
    if cases.isna().to_numpy().any():
        case = cases["case"][cases.isna().any(axis=1)].iloc[0]
        raise ValueError(f"case {case!r} of task {key['task']} has no target")
    outputs = _output_names(key, rows)
    target = _target(key, cases, outputs)
    models = tuple(_models(key, rows, outputs, target))
    known = [name for name in ABOUT if name in rows.columns]
    told = rows[known].where(rows[known] != "")
    about = told.groupby(rows["case"]).first().reindex(cases["case"]).reset_index(drop=True)
    return Sheet(key, cases["subject"].astype(str).to_numpy(), target, outputs, models, about)


def _output_names(key: dict[str, Any], rows: pd.DataFrame) -> tuple[str, ...]:
    """Output columns that the sheet's good rows fill (those of other tasks are all empty)."""
    filled = rows[rows["status"] == "ok"].dropna(axis=1, how="all").columns
    if key["kind"] in ("regression", "survival"):
        names = tuple(name for name in filled if name == "output")
    else:
        names = tuple(str(name).removeprefix("output_") for name in filled if str(name).startswith("output_"))
    if not names:
        raise ValueError(f"task {key['task']} ({key['kind']}) has no output columns, or every case of it failed")
    return names


def _target(key: dict[str, Any], cases: pd.DataFrame, outputs: tuple[str, ...]) -> np.ndarray:
    if key["kind"] == "classification":
        names = cases["target"].astype(str)
        unknown = sorted(set(names) - set(outputs))
        if unknown:
            raise ValueError(f"task {key['task']}: class {unknown[0]!r} has no column 'output_{unknown[0]}'")
        return names.map({name: index for index, name in enumerate(outputs)}).to_numpy(np.int64)
    numbers = cases[list(TARGETS[key["kind"]])].to_numpy(float)
    return numbers[:, 0] if key["kind"] == "regression" else numbers


def _models(key: dict[str, Any], rows: pd.DataFrame, outputs: tuple[str, ...], target: np.ndarray) -> Iterator[Model]:
    flat = key["kind"] in ("regression", "survival")
    columns = ["output"] if flat else [f"output_{name}" for name in outputs]
    for (encoder, head, fraction), own in rows.groupby(list(MODEL)):
        seeds, arrays, good, thresholds, curves = [], [], [], [], []
        for seed, run in own.groupby("seed"):
            run = run.sort_values("case")
            ok, values = (run["status"] == "ok").to_numpy(), run[columns].to_numpy(float)
            broken = run["case"].to_numpy()[ok & ~np.isfinite(values).all(1)]
            if len(broken):
                raise ValueError(f"case {broken[0]!r} of {encoder}/{head} has status ok, but an output is not finite")
            seeds.append(int(float(str(seed))))
            arrays.append(values[:, 0] if flat else values)
            good.append(ok)
            if "threshold" in run and run["threshold"].notna().any():
                thresholds.append(float(run["threshold"].dropna().iloc[0]))
            if key["kind"] == "survival" and (curve := _curves(run, ok)) is not None:
                curves.append(curve.until(target[:, 0], LEAST_LATER))
        named = str(encoder), str(head), float(str(fraction))
        told = tuple(curves) if len(curves) == len(seeds) else ()
        yield Model(*named, tuple(seeds), tuple(arrays), np.all(good, axis=0), tuple(thresholds), told)


def _curves(run: pd.DataFrame, ok: np.ndarray) -> Curves | None:
    """The survival curves of one run, at those times whose columns it fills (the others are of other runs)."""
    columns = run.loc[:, [bool(re.fullmatch(CURVE, str(name))) for name in run.columns]]
    filled = columns[ok].dropna(axis=1, how="all").columns
    if not len(filled):
        return None
    at = {float(str(name).removeprefix("survival_")): name for name in filled}
    shares = run[[at[time] for time in sorted(at)]].to_numpy(float)
    wrong = run["case"].to_numpy()[ok & ~((shares >= 0) & (shares <= 1)).all(1)]
    if len(wrong):
        raise ValueError(
            f"case {wrong[0]!r} of {run['encoder'].iloc[0]}/{run['head'].iloc[0]} has status ok, but a survival "
            "probability (columns survival_<time>) that is missing or not within 0 and 1"
        )
    return Curves(np.array(sorted(at)), shares)
