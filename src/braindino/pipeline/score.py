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
- Strata (sex, age band, site, contrasts; where the table has the columns) are measured in the headline metric.
- Numbers of one protocol (see docs/tasks.md) are never put together or compared with those of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino.record import read_record, read_table, write_record, write_table
from braindino.stats import comparisons
from braindino.stats.bench import Bench
from braindino.stats.intervals import DRAWS
from braindino.stats.metrics import METRICS
from braindino.stats.names import plugin_of
from braindino.stats.sheets import Model, Sheet, read_sheets
from braindino.stats.strata import strata
from braindino.stats.survival import kaplan_meier, log_rank

PRIOR, COX, CLINICAL = "prior", "cox", "clinical"
ANSWERED = ["perturbation", "severity", "protocol", "split"]
FAMILY = [*ANSWERED, "task", "fraction"]
"""Comparisons that have these alike are corrected together, by Holm."""
GROUP = ("task", "perturbation", "severity", "protocol", "split")
MODEL = ("encoder", "head", "fraction")
METRIC_COLUMNS = (
    *("task", "encoder", "head", "fraction", "seed", "perturbation", "severity", "protocol", "split"),
    *("metric", "value", "low", "high", "interval", "seed_sd", "seed_min", "seed_max", "subjects", "failed"),
)
COMPARISON_COLUMNS = (
    *("task", "perturbation", "severity", "protocol", "split", "metric", "a", "b", "fraction"),
    *("difference", "low", "high", "p", "p_holm", "p_bh", "test", "subjects"),
)
STRATUM_COLUMNS = (
    *(*GROUP, *MODEL, "variable", "level"),
    *("metric", "value", "low", "high", "subjects", "smallest", "failed"),
)
RISK_COLUMNS = (
    *(*GROUP, *MODEL, "seed", "threshold", "group", "subjects", "events"),
    *("median", "median_low", "median_high", "log_rank", "p", "p_holm"),
)


@dataclass(frozen=True)
class Scores:
    """How good each model is, for whom, and which differences hold."""

    metrics: pd.DataFrame
    """One row per model and metric; `seed` lists the seeds that were averaged, `interval` names the method."""
    comparisons: pd.DataFrame
    """One row per pair of models: a minus b in the task's headline metric."""
    strata: pd.DataFrame
    """One row per model and stratum, in the headline metric; `smallest` is the size of the variable's smallest one."""
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
    rows: dict[str, list[dict[str, Any]]] = {"metrics": [], "pairs": [], "strata": [], "risks": []}
    for sheet in read_sheets(table):
        bench = Bench.of(sheet, draws, seed)
        rows["metrics"].extend(_metric_rows(bench))
        rows["pairs"].extend(_comparison_rows(bench))
        rows["strata"].extend(_stratum_rows(sheet, bench.headline(), draws, seed))
        if sheet.kind == "survival":
            rows["risks"].extend(_risk_rows(sheet))
    compared = pd.DataFrame(rows["pairs"], columns=list(COMPARISON_COLUMNS))
    compared["p_holm"] = _adjusted(compared, FAMILY, comparisons.holm)
    compared["p_bh"] = _adjusted(compared, ANSWERED, comparisons.benjamini_hochberg)
    risks = pd.DataFrame(rows["risks"], columns=list(RISK_COLUMNS))
    once = _adjusted(risks[risks["group"] == "high"], FAMILY, comparisons.holm)
    risks["p_holm"] = np.repeat(once.to_numpy(), 2)
    return Scores(
        pd.DataFrame(rows["metrics"], columns=list(METRIC_COLUMNS)),
        compared,
        pd.DataFrame(rows["strata"], columns=list(STRATUM_COLUMNS)),
        risks,
        draws,
        seed,
    )


def _adjusted(table: pd.DataFrame, family: Sequence[str], how: Callable[[np.ndarray], np.ndarray]) -> pd.Series[float]:
    """p adjusted within each family: the rows that have these columns alike."""
    adjusted = pd.Series(np.nan, table.index, float)
    for _, own in table.groupby(list(family)):
        adjusted[own.index] = how(own["p"].to_numpy(float))
    return adjusted


def _group(sheet: Sheet) -> dict[str, Any]:
    return {name: sheet.key[name] for name in GROUP}


def _named(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in MODEL}


def _metric_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    for model, metric in itertools.product(bench.sheet.models, bench.metrics()):
        seeds = bench.plain(model, metric, model.ok)
        low, high = bench.interval(model, metric)
        yield {
            **_group(bench.sheet),
            **_named(model),
            "seed": ",".join(map(str, model.seeds)),
            **{"metric": metric, "value": seeds.mean(), "low": low, "high": high},
            "interval": bench.metric(metric)[0].interval,
            "seed_sd": seeds.std(ddof=1) if len(seeds) > 1 else np.nan,
            **{"seed_min": seeds.min(), "seed_max": seeds.max()},
            **{"subjects": bench.subjects(model.ok), "failed": int((~model.ok).sum())},
        }


def _stratum_rows(sheet: Sheet, metric: str, draws: int, seed: int) -> Iterator[dict[str, Any]]:
    """Every stratum with draws of its own subjects; its interval is NaN where it lacks a class or any event."""
    found = [(variable, level, Bench.of(part, draws, seed)) for variable, level, part in strata(sheet)]
    for (variable, level, bench), number in itertools.product(found, range(len(sheet.models))):
        model = bench.sheet.models[number]
        sizes = [other.subjects(other.sheet.models[number].ok) for name, _, other in found if name == variable]
        low, high = bench.interval(model, metric)
        yield {
            **_group(sheet),
            **_named(model),
            **{"variable": variable, "level": level, "metric": metric},
            **{"value": bench.plain(model, metric, model.ok).mean(), "low": low, "high": high},
            **{"subjects": bench.subjects(model.ok), "smallest": min(sizes), "failed": int((~model.ok).sum())},
        }


def _risk_rows(sheet: Sheet) -> Iterator[dict[str, Any]]:
    """High and low risk by the threshold of the training subjects; models without one have no rows.

    The threshold is the table's column `threshold`; the Cox head puts the median training subject at 0.
    """
    for model in sheet.models:
        thresholds = model.thresholds or ((0.0,) * len(model.seeds) if plugin_of(model.head) == COX else ())
        time, event = sheet.target[model.ok, 0], sheet.target[model.ok, 1].astype(bool)
        for seed, output, threshold in zip(model.seeds, model.outputs, thresholds, strict=False):
            risk = output[model.ok]
            high = risk >= threshold
            test = log_rank(time, event, risk, threshold) if 0 < high.sum() < len(high) else None
            for name, who in (("high", high), ("low", ~high)):
                curve = kaplan_meier(time[who], event[who]) if who.any() else None
                yield {
                    **_group(sheet),
                    **_named(model),
                    **{"seed": str(seed), "threshold": threshold, "group": name},
                    **{"subjects": int(who.sum()), "events": int(event[who].sum())},
                    "median": curve.median if curve else np.nan,
                    "median_low": curve.median_low if curve else np.nan,
                    "median_high": curve.median_high if curve else np.nan,
                    **{"log_rank": test.statistic if test else np.nan, "p": test.p if test else np.nan},
                    "p_holm": np.nan,
                }


def _comparison_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    metric = bench.headline()
    for a, b in _pairs(bench.sheet.models):
        ok = a.ok & b.ok
        difference, test = _compare(bench, a, b, metric, ok)
        yield {
            **_group(bench.sheet),
            **{"metric": metric, "a": a.name, "b": b.name, "fraction": a.fraction},
            **{"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p},
            **{"p_holm": np.nan, "p_bh": np.nan, "test": test, "subjects": bench.subjects(ok)},
        }


def _pairs(models: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
    """Models of one fraction: two encoders with the same head, one encoder with two forms of a head, and each model
    against the two baselines of any head.

    These are the first prior head, and age and sex alone (the encoder `clinical`) with its first learned head.
    """
    for fraction in sorted({model.fraction for model in models}):
        own = [model for model in models if model.fraction == fraction]
        learned = [model for model in own if plugin_of(model.head) != PRIOR]
        yield from ((a, b) for a, b in itertools.combinations(learned, 2) if a.head == b.head or _forms(a, b))
        yield from itertools.product(learned, [model for model in own if plugin_of(model.head) == PRIOR][:1])
        clinical = [model for model in learned if plugin_of(model.encoder) == CLINICAL][:1]
        images = [model for model in learned if plugin_of(model.encoder) != CLINICAL]
        yield from ((a, b) for a, b in itertools.product(images, clinical) if a.head != b.head)


def _forms(a: Model, b: Model) -> bool:
    """Whether two models are one encoder with two forms of one head, as `linear` and `linear+combat`."""
    return a.encoder == b.encoder and plugin_of(a.head) == plugin_of(b.head)


def _compare(bench: Bench, a: Model, b: Model, metric: str, ok: np.ndarray) -> tuple[comparisons.Difference, str]:
    """Difference and interval by the paired bootstrap; p by the sharpest test that applies.

    AUC of two classes: DeLong; accuracy: exact McNemar; both need one seed each and one case per subject (and family).
    Segmentation: Wilcoxon on the subjects' means. Everything else: the bootstrap's own p.
    """
    difference = bench.difference(a, b, metric, ok)
    if not ok.any():
        return difference, "none"
    target, clusters = bench.sheet.target[ok], bench.sheet.clusters[ok]
    x, y = a.outputs[0][ok], b.outputs[0][ok]
    if METRICS[metric].kind == "segmentation":
        p = comparisons.wilcoxon(*(_cluster_means(bench, model, metric, ok, clusters) for model in (a, b)))
        return _with_p(difference, p), "wilcoxon"
    single = len(a.seeds) == len(b.seeds) == 1 and len(np.unique(clusters)) == len(clusters)
    if metric == "accuracy" and single:
        return _with_p(difference, comparisons.mcnemar(x.argmax(1) == target, y.argmax(1) == target)), "mcnemar"
    if metric == "roc_auc" and single and x.shape[1] == 2 and np.bincount(target, minlength=2).min() > 1:
        return _with_p(difference, comparisons.delong(target == 1, x[:, 1], y[:, 1]).p), "delong"
    return difference, "bootstrap"


def _with_p(difference: comparisons.Difference, p: float) -> comparisons.Difference:
    return comparisons.Difference(difference.value, difference.low, difference.high, p)


def _cluster_means(bench: Bench, model: Model, metric: str, ok: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean of a per-case metric over regions, seeds and the cases of each subject (or family)."""
    columns = bench.metric(metric)[1]
    cases = np.mean([output[ok][:, columns].mean(1) for output in model.outputs], axis=0)
    _, inverse = np.unique(clusters, return_inverse=True)
    return np.asarray(np.bincount(inverse, weights=cases) / np.bincount(inverse))


TABLES = ("metrics", "comparisons", "strata", "risk_groups")
TEXT = (*("task", "encoder", "head", "seed", "perturbation", "split", "metric", "a", "b", "test", "interval"),
        *("variable", "level", "group"))  # fmt: skip


def write_scores(scores: Scores, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `metrics.tsv`, `comparisons.tsv`, `strata.tsv`, `risk_groups.tsv` and the record."""
    for name in TABLES:
        write_table(Path(out) / f"{name}.tsv", getattr(scores, name))
    write_record(Path(out), "score", {"draws": scores.draws, "seed": scores.seed}, parents=parents)


def read_scores(folder: Path) -> Scores:
    """Read a scores folder, verified.

    Raises:
        ValueError: not a finished scores folder, or a changed file.
    """
    config = read_record(Path(folder), "score")["config"]
    tables = [read_table(Path(folder) / f"{name}.tsv", text=TEXT) for name in TABLES]
    metrics, compared, by_stratum, risks = tables
    return Scores(metrics, compared, by_stratum, risks, int(config["draws"]), int(config["seed"]))
