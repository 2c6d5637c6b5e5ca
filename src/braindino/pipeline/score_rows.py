"""The rows of what `score` writes, sheet by sheet; its rules stand in `pipeline.score`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from braindino.stats.bench import Bench
from braindino.stats.comparisons import Difference
from braindino.stats.interaction import apart
from braindino.stats.names import plugin_of
from braindino.stats.pairs import compare, pairs
from braindino.stats.sheets import Model, Sheet
from braindino.stats.strata import AGE, large_enough
from braindino.stats.survival import kaplan_meier, log_rank

COX = "cox"
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
STRATUM_COMPARISON_COLUMNS = (
    *(*GROUP, "fraction", "variable", "level", "minus", "metric", "a", "b"),
    *("difference", "low", "high", "p", "p_holm", "p_bh", "test", "subjects"),
)
RISK_COLUMNS = (
    *(*GROUP, *MODEL, "seed", "threshold", "group", "subjects", "events"),
    *("median", "median_low", "median_high", "log_rank", "p", "p_holm"),
)
COLUMNS = {
    "metrics": METRIC_COLUMNS,
    "comparisons": COMPARISON_COLUMNS,
    "strata": STRATUM_COLUMNS,
    "stratum_comparisons": STRATUM_COMPARISON_COLUMNS,
    "risk_groups": RISK_COLUMNS,
}
"""Table to its columns."""
Strata = Sequence[tuple[str, str, Bench]]
"""Variable, level, and the cases of that level with draws of their own."""


def _group(sheet: Sheet) -> dict[str, Any]:
    return {name: sheet.key[name] for name in GROUP}


def _named(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in MODEL}


def metric_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """Every model in every metric of its kind of task."""
    for model, metric in ((one, metric) for one in bench.sheet.models for metric in bench.metrics(one)):
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


def stratum_rows(found: Strata, metric: str) -> Iterator[dict[str, Any]]:
    """Every stratum with draws of its own subjects; its interval is NaN where it lacks a class or any event."""
    for variable, level, bench in found:
        for number, model in enumerate(bench.sheet.models):
            sizes = [other.subjects(other.sheet.models[number].ok) for name, _, other in found if name == variable]
            low, high = bench.interval(model, metric)
            yield {
                **_group(bench.sheet),
                **_named(model),
                **{"variable": variable, "level": level, "metric": metric},
                **{"value": bench.plain(model, metric, model.ok).mean(), "low": low, "high": high},
                **{"subjects": bench.subjects(model.ok), "smallest": min(sizes), "failed": int((~model.ok).sum())},
            }


def stratum_comparison_rows(whole: Bench, found: Strata, seed: int) -> Iterator[dict[str, Any]]:
    """Pairs of models at the largest fraction within each stratum, and how the oldest band differs from the youngest.

    Only of unperturbed answers, and only where `strata.large_enough` holds for the cases that both models answered.
    """
    sheet, metric = whole.sheet, whole.headline()
    if sheet.key["perturbation"] != "none":
        return
    fraction = max(model.fraction for model in sheet.models)
    for variable, level, bench in found:
        for a, b in pairs(_at(bench.sheet.models, fraction)):
            ok = a.ok & b.ok
            if large_enough(bench.sheet, ok):
                told = {"variable": variable, "level": level, "minus": ""}
                yield told | _pair_row(bench, a, b, *compare(bench, a, b, metric, ok))
    bands = [level for variable, level, bench in found if variable == AGE and large_enough(bench.sheet)]
    if len(bands) < 2:
        return
    ends = apart(sheet, AGE, bands[-1], bands[0], len(whole.counts), seed)
    for a, b in pairs(_at(ends.bench.sheet.models, fraction)):
        if ends.large_enough(a.ok & b.ok):
            told = {"variable": AGE, "level": bands[-1], "minus": bands[0]}
            yield told | _pair_row(ends.bench, a, b, ends.difference(a, b, metric), "bootstrap")


def _at(models: Sequence[Model], fraction: float) -> list[Model]:
    return [model for model in models if model.fraction == fraction]


def risk_rows(sheet: Sheet) -> Iterator[dict[str, Any]]:
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


def comparison_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """Every pair of models in the headline metric, on the cases that both answered."""
    for a, b in pairs(bench.sheet.models):
        yield _pair_row(bench, a, b, *compare(bench, a, b, bench.headline(), a.ok & b.ok))


def _pair_row(bench: Bench, a: Model, b: Model, difference: Difference, test: str) -> dict[str, Any]:
    return {
        **_group(bench.sheet),
        **{"metric": bench.headline(), "a": a.name, "b": b.name, "fraction": a.fraction},
        **{"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p},
        **{"p_holm": np.nan, "p_bh": np.nan, "test": test, "subjects": bench.subjects(a.ok & b.ok)},
    }
