"""How often does a 95 % interval hold the true value? Every metric, every interval, samples with a known answer.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --out benchmarks/results/interval_coverage.tsv

For every row, `repeats` samples of `subjects` subjects are drawn from a model, the interval of each is made with 1000
draws, and counted: `coverage` is the share of intervals that hold the true value, `too_low` and `too_high` the shares
that lie wholly below and above it (2.5 % each were right). The truth is exact where a formula is given below, else the
mean over 40 samples of 2000 subjects. The standard error of a coverage of 95 % is 0.7 % at 1000 repeats.

`used` marks the method that `braindino score` takes. Samples: two classes with scores N(0, 1) and N(1.2, 1) as
calibrated probabilities (for `ece` and `calibration_slope` also twice as extreme logits), three classes, ages with
normal errors of 6 years around a regression to the mean, survival times exponential in a risk with a third censored
(with exponential survival curves, told at five moments), Dice values from a beta and HD95 from a gamma distribution;
`clustered`: four scans of each subject that share most of their error; `family`: pairs of subjects that do. Differences
are between two models on the same subjects. `--only` measures some metrics again and leaves all other rows as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from braindino.record import read_table, write_table
from braindino.stats import comparisons
from braindino.stats.censoring import Curves
from braindino.stats.intervals import bca_interval, bootstrap_counts, jackknife, percentile_interval, strata_of
from braindino.stats.metrics import METRICS
from braindino.stats.survival import kaplan_meier

DRAWS = 1000
Sample = tuple[np.ndarray, Any]
Ends = dict[str, tuple[float, float]]


def two_classes(rng: np.random.Generator, n: int, gap: float = 1.2, extreme: float = 1.0) -> Sample:
    y = np.arange(n) % 2
    p = special.expit(extreme * gap * (rng.normal(size=n) + gap * y - gap / 2))
    return y, np.stack([1 - p, p], 1)


def extreme(rng: np.random.Generator, n: int) -> Sample:
    return two_classes(rng, n, extreme=2.0)


def three_classes(rng: np.random.Generator, n: int) -> Sample:
    y = np.arange(n) % 3
    raw = np.exp(rng.normal(size=(n, 3)) + 1.2 * (y[:, None] == np.arange(3)))
    return y, raw / raw.sum(1, keepdims=True)


def ages(rng: np.random.Generator, n: int) -> Sample:
    y = rng.normal(60, 12, n)
    return y, 60 + 0.7 * (y - 60) + rng.normal(0, 6, n)


def survival(rng: np.random.Generator, n: int) -> Sample:
    x = rng.normal(size=n)
    death, left = rng.exponential(np.exp(-x)), rng.exponential(2.5, n)
    return np.stack([np.minimum(death, left), death <= left], 1).astype(float), x + 0.7 * rng.normal(size=n)


def curves(rng: np.random.Generator, n: int) -> Sample:
    seen, risk = survival(rng, n)
    at = np.array([0.2, 0.4, 0.7, 1.0, 1.3])
    return seen, Curves(at, np.exp(-at * np.exp(0.7 * risk)[:, None]))


def overlaps(rng: np.random.Generator, n: int) -> Sample:
    return np.zeros((n, 0)), rng.beta(5, 1.5, (n, 1))


def distances(rng: np.random.Generator, n: int) -> Sample:
    return np.zeros((n, 0)), rng.gamma(1.2, 6, (n, 1))


MADE: tuple[tuple[str, Callable[[np.random.Generator, int], Sample], float | None], ...] = (
    ("roc_auc", two_classes, float(stats.norm.cdf(1.2 / np.sqrt(2)))),
    ("roc_auc", three_classes, None),
    ("auprc", two_classes, None),
    ("accuracy", two_classes, float(stats.norm.cdf(0.6))),
    ("balanced_accuracy", three_classes, None),
    ("f1", three_classes, None),
    ("brier", two_classes, None),
    ("ece", two_classes, 0.0),
    ("ece", extreme, None),
    ("calibration_slope", two_classes, 1.0),
    ("calibration_slope", extreme, 0.5),
    ("mae", ages, float(np.sqrt((3.6**2 + 36) * 2 / np.pi))),
    ("rmse", ages, float(np.sqrt(3.6**2 + 36))),
    ("r2", ages, 1 - (3.6**2 + 36) / 144),
    ("pearson_r", ages, float(8.4 / np.hypot(8.4, 6))),
    ("concordance_index", survival, None),
    ("concordance_ipcw", survival, None),
    ("integrated_brier", curves, None),
    ("brier_skill", curves, None),
    ("dice", overlaps, 5 / 6.5),
    ("hd95_mm", distances, 7.2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=1000, help="at 50 subjects; a third of them at 150")
    parser.add_argument("--only", nargs="+", choices=tuple(METRICS), help="these metrics, beside what --out holds")
    options = parser.parse_args()
    begun, rows = time.process_time(), []
    kept = read_table(options.out) if options.only else pd.DataFrame({"metric": []})
    kept = kept[~kept["metric"].isin(options.only or ())]
    asked = [one for one in MADE if not options.only or one[0] in options.only]
    others = [
        what
        for what in (clustered, families, difference_mae, difference_auc, difference_dice, median_survival)
        if not options.only or what(50)[0] in options.only
    ]
    for n, repeats in ((50, options.repeats), (150, options.repeats // 3)):
        for name, make, exact in asked:
            rows += counted(name, make.__name__, n, repeats, METRICS[name].interval, of_metric(name, make, n, exact))
        for what in others:
            metric, used, draw = what(n)
            rows += counted(metric, what.__name__, n, repeats, used, draw)
        write_table(options.out, pd.concat([kept, pd.DataFrame(rows)], ignore_index=True))
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"{time.process_time() - begun:.0f} seconds")


def counted(
    metric: str, sample: str, n: int, repeats: int, used: str, one: Callable[[int], tuple[float, Ends]]
) -> Iterator[dict[str, object]]:
    hits: dict[str, list[tuple[float, float, float]]] = {}
    for repeat in range(repeats):
        truth, found = one(repeat)
        for method, (low, high) in found.items():
            hits.setdefault(method, []).append((low <= truth <= high, high < truth, low > truth))
    for method, own in hits.items():
        coverage, low, high = np.mean(own, axis=0)
        yield {
            **{"metric": metric, "sample": sample, "subjects": n, "method": method, "used": method == used},
            **{"coverage": coverage, "too_low": low, "too_high": high, "repeats": repeats},
        }


def both(value: float, drawn: np.ndarray, function: Callable, clusters: np.ndarray, strata: np.ndarray | None) -> Ends:
    left_out, first = jackknife(function, clusters)
    own = None if strata is None else strata[first]
    return {"percentile": percentile_interval(drawn), "bca": bca_interval(value, drawn, left_out, own)}


def of_metric(name: str, make: Callable, n: int, exact: float | None) -> Callable[[int], tuple[float, Ends]]:
    metric = METRICS[name]
    large = [metric.value(*make(np.random.default_rng([1, k]), 2000)) for k in range(0 if exact is not None else 40)]
    truth = exact if exact is not None else float(np.mean(large))

    def one(repeat: int) -> tuple[float, Ends]:
        target, output = make(np.random.default_rng([2, n, repeat]), n)
        strata, ids = strata_of(metric.kind, target), np.arange(n)
        counts = bootstrap_counts(ids, strata=strata, draws=DRAWS, seed=repeat)

        def function(weights: np.ndarray) -> np.ndarray:
            return metric.function(target, output, weights)

        return truth, both(metric.value(target, output), function(counts), function, ids, strata)

    return one


def grouped(metric: str, n: int, size: int, together: float) -> Callable[[int], tuple[float, Ends]]:
    """MAE of n subjects or families of `size` cases, whose errors share `together` of their variance."""

    def one(repeat: int) -> tuple[float, Ends]:
        rng = np.random.default_rng([3, n, size, repeat])
        shared, own = np.repeat(rng.normal(size=n), size), rng.normal(size=n * size)
        error = np.sqrt(together) * shared + np.sqrt(1 - together) * own
        clusters, target = np.repeat(np.arange(n), size), np.zeros(n * size)

        def function(weights: np.ndarray) -> np.ndarray:
            return METRICS[metric].function(target, error, weights)

        counts, apart = (bootstrap_counts(ids, draws=DRAWS, seed=repeat) for ids in (clusters, np.arange(n * size)))
        value = METRICS[metric].value(target, error)
        found = both(value, function(counts), function, clusters, None)
        return float(np.sqrt(2 / np.pi)), {**found, "cases as subjects": percentile_interval(function(apart))}

    return one


def clustered(n: int) -> tuple[str, str, Callable]:
    return "mae", "bca", grouped("mae", n, 4, 0.8)


def families(n: int) -> tuple[str, str, Callable]:
    return "mae", "bca", grouped("mae", n, 2, 0.8)


def paired(name: str, n: int, make: Callable, truth: float) -> Callable[[int], tuple[float, Ends]]:
    metric = METRICS[name]

    def one(repeat: int) -> tuple[float, Ends]:
        target, a, b = make(np.random.default_rng([4, n, repeat]))
        strata, ids = strata_of(metric.kind, target), np.arange(n)

        def function(weights: np.ndarray) -> np.ndarray:
            return metric.function(target, a, weights) - metric.function(target, b, weights)

        counts = bootstrap_counts(ids, strata=strata, draws=DRAWS, seed=repeat)
        found = both(float(function(np.ones((1, n)))[0]), function(counts), function, ids, strata)
        if name == "roc_auc":
            tested = comparisons.delong(target == 1, a[:, 1], b[:, 1])
            found["delong"] = tested.low, tested.high
        return truth, found

    return one


def difference_mae(n: int) -> tuple[str, str, Callable]:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shared = rng.normal(size=n)
        return np.zeros(n), 3 * shared + 4 * rng.normal(size=n), 3 * shared + 5 * rng.normal(size=n)

    truth = float((5 - np.sqrt(34)) * np.sqrt(2 / np.pi))
    return "mae", "bca", paired("mae", n, make, truth)


def difference_auc(n: int) -> tuple[str, str, Callable]:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, shared = np.arange(n) % 2, rng.normal(size=n)
        scores = (special.expit(shared + rng.normal(size=n) + gap * y) for gap in (1.6, 1.0))
        a, b = (np.stack([1 - p, p], 1) for p in scores)
        return y, a, b

    truth = float(stats.norm.cdf(0.8) - stats.norm.cdf(0.5))
    return "roc_auc", "bca", paired("roc_auc", n, make, truth)


def difference_dice(n: int) -> tuple[str, str, Callable]:
    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a = rng.beta(5, 1.5, (n, 1))
        return np.zeros((n, 0)), a, a * rng.beta(8, 1, (n, 1))

    return "dice", "bca", paired("dice", n, make, 5 / 6.5 * (1 - 8 / 9))


def median_survival(n: int) -> tuple[str, str, Callable]:
    def one(repeat: int) -> tuple[float, Ends]:
        rng = np.random.default_rng([5, n, repeat])
        death, left = rng.exponential(1.0, n), rng.exponential(2.5, n)
        curve = kaplan_meier(np.minimum(death, left), death <= left)
        return float(np.log(2)), {"brookmeyer-crowley": (curve.median_low, curve.median_high)}

    return "median", "brookmeyer-crowley", one


if __name__ == "__main__":
    main()
