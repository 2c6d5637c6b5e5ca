"""Which models are compared with each other, and by which test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from braindino.stats import comparisons
from braindino.stats.bench import Bench
from braindino.stats.metrics import METRICS
from braindino.stats.names import plugin_of
from braindino.stats.sheets import Model

PRIOR, CLINICAL = "prior", "clinical"


def pairs(models: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
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


def compare(bench: Bench, a: Model, b: Model, metric: str, ok: np.ndarray) -> tuple[comparisons.Difference, str]:
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
