"""score: predictions -> metrics with intervals, paired comparisons. Reads tables only, needs no torch.

The rules, stated once:

- The subject is the unit: intervals resample subjects, stratified by class (classification) or event (survival).
- A failed case is no answer: metrics are taken over the cases with an answer, `failed` stands beside them, and a
  comparison takes the cases that both models answered. A table in which a case is absent is refused.
- Several seeds of one model are one model: its metric is the mean over seeds, in every draw too; `seed_sd` is the
  standard deviation over seeds, which is a different quantity from the interval.
- Comparisons are made in the task's headline metric, between encoders with the same head and between every model
  and the prior head. One family for Holm's correction: all comparisons of one split under one perturbation.
- Numbers of one protocol (see docs/tasks.md) are never put together or compared with those of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino.record import read_record, read_table, write_record, write_table
from braindino.stats import comparisons
from braindino.stats.intervals import DRAWS, bootstrap_counts, percentile_interval, strata_of
from braindino.stats.metrics import METRICS, Metric
from braindino.stats.sheets import Model, Sheet, read_sheets

PRIOR = "prior"
GROUP = ("task", "perturbation", "severity", "protocol", "split")
METRIC_COLUMNS = (
    *("task", "encoder", "head", "fraction", "seed", "perturbation", "severity", "protocol", "split"),
    *("metric", "value", "low", "high", "seed_sd", "subjects", "failed"),
)
COMPARISON_COLUMNS = (
    *("task", "perturbation", "severity", "protocol", "split", "metric", "a", "b", "fraction"),
    *("difference", "low", "high", "p", "p_holm", "test", "subjects"),
)


@dataclass(frozen=True)
class Scores:
    """How good each model is, and which differences hold."""

    metrics: pd.DataFrame
    """One row per model and metric; `seed` lists the seeds that were averaged."""
    comparisons: pd.DataFrame
    """One row per pair of models: a minus b in the task's headline metric."""
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
    metrics: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for sheet in read_sheets(table):
        strata = strata_of(sheet.kind, sheet.target)
        bench = _Bench(sheet, bootstrap_counts(sheet.subjects, strata=strata, draws=draws, seed=seed))
        metrics.extend(_metric_rows(bench))
        pairs.extend(_comparison_rows(bench))
    compared = pd.DataFrame(pairs, columns=list(COMPARISON_COLUMNS))
    family = compared.groupby(["perturbation", "severity", "protocol", "split"])["p"]
    compared["p_holm"] = family.transform(lambda p: comparisons.holm(p.to_numpy(float)))
    return Scores(pd.DataFrame(metrics, columns=list(METRIC_COLUMNS)), compared, draws, seed)


@dataclass(frozen=True)
class _Bench:
    """A sheet with the draws of subjects that all its models share."""

    sheet: Sheet
    counts: np.ndarray

    def columns(self, metric: str) -> tuple[Metric, list[int] | None]:
        """The metric and, for segmentation, the output columns that it averages."""
        if self.sheet.kind != "segmentation":
            return METRICS[metric], None
        own = [n for n, name in enumerate(self.sheet.outputs) if name == metric or name.endswith(f"_{metric}")]
        return METRICS["dice" if metric.endswith("dice") else "hd95_mm"], own

    def values(self, model: Model, metric: str, ok: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(seed, draw) of a metric on the cases `ok`."""
        definition, columns = self.columns(metric)
        target, weights = self.sheet.target[ok], weights[:, ok]
        outputs = [output[ok] if columns is None else output[ok][:, columns] for output in model.outputs]
        if not ok.any():
            return np.full((len(outputs), len(weights)), np.nan)
        return np.stack([definition.function(target, output, weights) for output in outputs])

    def plain(self, model: Model, metric: str, ok: np.ndarray) -> np.ndarray:
        """(seed,): the metric on the sample itself."""
        return np.asarray(self.values(model, metric, ok, np.ones((1, len(ok))))[:, 0])

    def drawn(self, model: Model, metric: str, ok: np.ndarray) -> np.ndarray:
        """(draw,): the metric in each draw, averaged over seeds."""
        return np.asarray(self.values(model, metric, ok, self.counts).mean(0))

    def group(self) -> dict[str, Any]:
        """The columns that say which sheet this is."""
        return {name: self.sheet.key[name] for name in GROUP}

    def metrics(self) -> list[str]:
        """All metrics of this kind of task; for segmentation also one per region."""
        named = [name for name, metric in METRICS.items() if metric.kind == self.sheet.kind]
        if self.sheet.kind == "segmentation":
            return [*(name for name in named if self.columns(name)[1]), *self.sheet.outputs]
        return named

    def headline(self) -> str:
        """The metric that the task names."""
        metric = str(self.sheet.key["metric"])
        if metric not in METRICS or METRICS[metric].kind != self.sheet.kind:
            fit = ", ".join(name for name, known in METRICS.items() if known.kind == self.sheet.kind)
            raise ValueError(f"task {self.sheet.key['task']} names the metric {metric!r}; a {self.sheet.kind}: {fit}")
        return metric


def _metric_rows(bench: _Bench) -> Iterator[dict[str, Any]]:
    for model, metric in itertools.product(bench.sheet.models, bench.metrics()):
        seeds = bench.plain(model, metric, model.ok)
        low, high = percentile_interval(bench.drawn(model, metric, model.ok))
        yield {
            **bench.group(),
            **{"encoder": model.encoder, "head": model.head, "fraction": model.fraction},
            "seed": ",".join(map(str, model.seeds)),
            **{"metric": metric, "value": seeds.mean(), "low": low, "high": high},
            "seed_sd": seeds.std(ddof=1) if len(seeds) > 1 else np.nan,
            "subjects": len(np.unique(bench.sheet.subjects[model.ok])),
            "failed": int((~model.ok).sum()),
        }


def _comparison_rows(bench: _Bench) -> Iterator[dict[str, Any]]:
    metric = bench.headline()
    for a, b in _pairs(bench.sheet.models):
        ok = a.ok & b.ok
        difference, test = _compare(bench, a, b, metric, ok)
        yield {
            **bench.group(),
            **{"metric": metric, "a": a.name, "b": b.name, "fraction": a.fraction},
            **{"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p},
            **{"p_holm": np.nan, "test": test, "subjects": len(np.unique(bench.sheet.subjects[ok]))},
        }


def _pairs(models: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
    """Models of one fraction: two encoders with the same head, and each model against the first prior head."""
    for fraction in sorted({model.fraction for model in models}):
        own = [model for model in models if model.fraction == fraction]
        learned = [model for model in own if model.head != PRIOR]
        yield from ((a, b) for a, b in itertools.combinations(learned, 2) if a.head == b.head)
        yield from itertools.product(learned, [model for model in own if model.head == PRIOR][:1])


def _compare(bench: _Bench, a: Model, b: Model, metric: str, ok: np.ndarray) -> tuple[comparisons.Difference, str]:
    """Difference and interval by the paired bootstrap; p by the sharpest test that applies.

    AUC of two classes: DeLong; accuracy: exact McNemar; both need one seed each and one case per subject. Dice and
    HD95: Wilcoxon on the subjects' means. Everything else: the bootstrap's own p.
    """
    value = float(bench.plain(a, metric, ok).mean() - bench.plain(b, metric, ok).mean())
    difference = comparisons.paired_bootstrap(bench.drawn(a, metric, ok), bench.drawn(b, metric, ok), value)
    if not ok.any():
        return difference, "none"
    target, subjects = bench.sheet.target[ok], bench.sheet.subjects[ok]
    x, y = a.outputs[0][ok], b.outputs[0][ok]
    if metric in ("dice", "hd95_mm"):
        p = comparisons.wilcoxon(*(_subject_means(bench, model, metric, ok, subjects) for model in (a, b)))
        return _with_p(difference, p), "wilcoxon"
    single = len(a.seeds) == len(b.seeds) == 1 and len(np.unique(subjects)) == len(subjects)
    if metric == "accuracy" and single:
        return _with_p(difference, comparisons.mcnemar(x.argmax(1) == target, y.argmax(1) == target)), "mcnemar"
    if metric == "roc_auc" and single and x.shape[1] == 2 and np.bincount(target, minlength=2).min() > 1:
        return _with_p(difference, comparisons.delong(target == 1, x[:, 1], y[:, 1]).p), "delong"
    return difference, "bootstrap"


def _with_p(difference: comparisons.Difference, p: float) -> comparisons.Difference:
    return comparisons.Difference(difference.value, difference.low, difference.high, p)


def _subject_means(bench: _Bench, model: Model, metric: str, ok: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Mean of a per-case metric over regions, seeds and the cases of each subject."""
    columns = bench.columns(metric)[1]
    cases = np.mean([output[ok][:, columns].mean(1) for output in model.outputs], axis=0)
    _, inverse = np.unique(subjects, return_inverse=True)
    return np.asarray(np.bincount(inverse, weights=cases) / np.bincount(inverse))


def write_scores(scores: Scores, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `metrics.tsv`, `comparisons.tsv` and the record."""
    write_table(Path(out) / "metrics.tsv", scores.metrics)
    write_table(Path(out) / "comparisons.tsv", scores.comparisons)
    write_record(Path(out), "score", {"draws": scores.draws, "seed": scores.seed}, parents=parents)


def read_scores(folder: Path) -> Scores:
    """Read a scores folder, verified.

    Raises:
        ValueError: not a finished scores folder, or a changed file.
    """
    config = read_record(Path(folder), "score")["config"]
    text = ("task", "encoder", "head", "seed", "perturbation", "protocol", "split", "metric")
    metrics = read_table(Path(folder) / "metrics.tsv", text=text)
    compared = read_table(
        Path(folder) / "comparisons.tsv", text=(*GROUP[:2], "protocol", "split", "metric", "a", "b", "test")
    )
    return Scores(metrics, compared, int(config["draws"]), int(config["seed"]))
