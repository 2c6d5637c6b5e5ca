"""score: predictions -> metrics with intervals, paired comparisons, strata, risk groups. Needs no torch.

The rules, stated once (formulas and sources: docs/statistics.md):

- The subject is the unit: intervals resample subjects, and whole families where the table has a column `family`,
  stratified by class (classification) or event (survival).
- A failed case is no answer: metrics are taken over the cases with an answer, `failed` stands beside them, and a
  comparison takes the cases that both models answered. A table in which a case is absent is refused.
- Several seeds of one model (draws of the training set, fits) are one model: its metric is the mean over seeds, in
  every draw too; `seed_sd`, `seed_min` and `seed_max` tell how seeds differ, which is another quantity than the
  interval: that one is about other subjects. Seeds never count as subjects.
- Models are told apart by the columns encoder, head and fraction; variants of one have names of their own there (see
  `stats.names`).
- Comparisons are made in the task's headline metric at one fraction: between encoders with the same head, between one
  head with and without what can stand around it on the same encoder, and, across heads, between every model and the
  prior head, and every model and age and sex alone. One family for Holm's
  correction: the comparisons of one task at one fraction (of a split, under one perturbation), which is one question;
  Benjamini and Hochberg's correction is over all tasks and fractions of a split under one perturbation. The log-rank
  tests are families of their own, cut the same way.
- Strata (sex, age band, site, contrasts; where the table has the columns) are measured in the headline metric. The
  same pairs are compared within each stratum that is large enough for a test (`strata.large_enough`), at the largest
  fraction, unperturbed: one family for Holm's correction is the pairs and levels of one variable. Whether a
  difference differs between the youngest and the oldest band of age is another question, so a family of its own.
- Survival curves (columns `survival_<time>`) are scored seed by seed at the seed's own times, as far as enough test
  cases outlive them (`sheets.LEAST_LATER`); models without curves have no such row.
- Numbers of one protocol (see docs/tasks.md) are never put together or compared with those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino.pipeline import score_rows
from braindino.record import read_record, read_table, write_record, write_table
from braindino.stats import comparisons
from braindino.stats.bench import Bench
from braindino.stats.intervals import DRAWS
from braindino.stats.sheets import read_sheets
from braindino.stats.strata import strata

ANSWERED = ["perturbation", "severity", "protocol", "split"]
FAMILY = [*ANSWERED, "task", "fraction"]
"""Comparisons that have these alike are corrected together, by Holm."""
BETWEEN = "between"
"""Whether a row of the strata's comparisons is about two levels; such rows are corrected among themselves."""
TABLES = tuple(score_rows.COLUMNS)
TEXT = (*("task", "encoder", "head", "seed", "perturbation", "split", "metric", "a", "b", "test", "interval"),
        *("variable", "level", "minus", "group"))  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """How good each model is, for whom, and which differences hold."""

    metrics: pd.DataFrame
    """One row per model and metric; `seed` lists the seeds that were averaged, `interval` names the method."""
    comparisons: pd.DataFrame
    """One row per pair of models: a minus b in the task's headline metric."""
    strata: pd.DataFrame
    """One row per model and stratum, in the headline metric; `smallest` is the size of the variable's smallest one."""
    stratum_comparisons: pd.DataFrame
    """One row per pair of models and stratum at the largest fraction: a minus b in the headline metric. Where `minus`
    names a level too, the row is that difference at `level` minus that at `minus`."""
    risk_groups: pd.DataFrame
    """Two rows per survival model and seed that has a threshold: high and low risk, with the log-rank test."""
    draws: int
    seed: int

    def __str__(self) -> str:
        return "\n".join(
            f"{row.task} {row.encoder}/{row.head} fraction {row.fraction:g} {row.perturbation} {row.severity}: "
            f"{row.metric} {row.value:.3g} [{row.low:.3g}, {row.high:.3g}], "
            f"{row.subjects} subjects, {row.failed} failed"
            for row in self.metrics.itertuples()
        )


def score(predictions: pd.DataFrame | Sequence[pd.DataFrame], *, draws: int = DRAWS, seed: int = 0) -> Scores:
    """Metrics with 95 % intervals of all models, and paired comparisons between them.

    Args:
        predictions: one or more predictions tables (`Predictions.table`); models that are to be compared must be in
            the same call.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Raises:
        ValueError: an unknown or unfit headline metric, or a table that `stats.sheets.read_sheets` refuses.
    """
    tables = [predictions] if isinstance(predictions, pd.DataFrame) else list(predictions)
    if not tables:
        raise ValueError("no predictions to score")
    table = pd.concat([one.dropna(axis=1, how="all") for one in tables], ignore_index=True)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for sheet in read_sheets(table):
        bench = Bench.of(sheet, draws, seed)
        found = [(variable, level, Bench.of(part, draws, seed)) for variable, level, part in strata(sheet)]
        rows["metrics"].extend(score_rows.metric_rows(bench))
        rows["comparisons"].extend(score_rows.comparison_rows(bench))
        rows["strata"].extend(score_rows.stratum_rows(found, bench.headline()))
        rows["stratum_comparisons"].extend(score_rows.stratum_comparison_rows(bench, found, seed))
        if sheet.kind == "survival":
            rows["risk_groups"].extend(score_rows.risk_rows(sheet))
    made = {name: pd.DataFrame(own, columns=list(score_rows.COLUMNS[name])) for name, own in rows.items()}
    _correct(made["comparisons"], FAMILY, ANSWERED)
    apart = made["stratum_comparisons"].assign(**{BETWEEN: made["stratum_comparisons"]["minus"] != ""})
    _correct(apart, [*FAMILY, "variable", BETWEEN], [*ANSWERED, BETWEEN])
    made["stratum_comparisons"] = apart.drop(columns=BETWEEN)
    risks = made["risk_groups"]
    once = _adjusted(risks[risks["group"] == "high"], FAMILY, comparisons.holm)
    risks["p_holm"] = np.repeat(once.to_numpy(), 2)
    return Scores(**made, draws=draws, seed=seed)


def _correct(table: pd.DataFrame, family: Sequence[str], every: Sequence[str]) -> None:
    """Fill `p_holm`, within each family, and `p_bh`, within the rows that have the columns `every` alike."""
    table["p_holm"] = _adjusted(table, family, comparisons.holm)
    table["p_bh"] = _adjusted(table, every, comparisons.benjamini_hochberg)


def _adjusted(table: pd.DataFrame, family: Sequence[str], how: Callable[[np.ndarray], np.ndarray]) -> pd.Series[float]:
    """p adjusted within each family: the rows that have these columns alike."""
    adjusted = pd.Series(np.nan, table.index, float)
    for _, own in table.groupby(list(family)):
        adjusted[own.index] = how(own["p"].to_numpy(float))
    return adjusted


def write_scores(scores: Scores, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write a file for each of `TABLES`, such as `metrics.tsv`, and the record."""
    for name in TABLES:
        write_table(Path(out) / f"{name}.tsv", getattr(scores, name))
    write_record(Path(out), "score", {"draws": scores.draws, "seed": scores.seed}, parents=parents)


def read_scores(folder: Path) -> Scores:
    """Read a scores folder, verified.

    Raises:
        ValueError: not a finished scores folder, a changed file, or one of an earlier version, which had fewer tables.
    """
    config = read_record(Path(folder), "score")["config"]
    absent = [name for name in TABLES if not (Path(folder) / f"{name}.tsv").is_file()]
    if absent:
        raise ValueError(f"{folder} has no {absent[0]}.tsv: an earlier version made it; delete it and score again")
    tables = {name: read_table(Path(folder) / f"{name}.tsv", text=TEXT) for name in TABLES}
    return Scores(**tables, draws=int(config["draws"]), seed=int(config["seed"]))
