"""Metrics by name, each computed for many resamplings of the cases at once.

Every function takes `weights` (draw, case), see `stats.draws`; calibration and inverse censoring weights stand in files
of their own.

One rule for the undefined: the value is NaN where a draw lacks what the metric is defined on (a class without
cases, no comparable pair, no variance, no cases at all). Nothing is skipped silently and nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Num

from braindino.stats.calibration import calibration_slope, ece
from braindino.stats.censoring import brier_skill, concordance_ipcw, integrated_brier
from braindino.stats.draws import Draws, Weights, mean, positive, ratio
from braindino.types import Kind

Method = Literal["bca", "percentile", "none"]


@dataclass(frozen=True)
class Metric:
    """One number that says how good a column of outputs is."""

    name: str
    kind: Kind
    higher_is_better: bool
    unit: str
    """"" for a pure number, "target" for the unit of the task's target, "mm"."""
    function: Callable[[Any, Any, Any], Any]
    """`(target, output, weights (draw, case)) -> (draw,)`; shapes of target and output by `kind`:
    classification (case,) class index and (case, class) probability; regression (case,) and (case,); survival
    (case, 2) = time, event and (case,) risk; segmentation: target unused and (case, region) of per-case values."""
    interval: Method = "bca"
    """How its interval is made, by what benchmarks/interval_coverage.py found to cover; `none`: nothing covers."""
    best: float | None = None
    """The value of a perfect answer where neither direction is better; such a metric cannot be a task's headline."""
    of: Literal["outputs", "curves"] = "outputs"
    """What it is measured on: outputs, which every model has, or survival curves (`censoring.Curves`), which some
    have; such a metric cannot be a task's headline either."""

    def value(self, target: Any, output: Any) -> float:
        """The plain metric: every case counts once."""
        return float(self.function(target, output, np.ones((1, len(output))))[0])


def roc_auc(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Area under the ROC curve, macro one-vs-rest: the unweighted mean over classes c of
    P(output_c of a case of c > output_c of another case) + P(equal) / 2.

    Range 0 to 1, chance 0.5. With two classes and probabilities that sum to 1 it is the usual AUC.
    NaN where a class has no case.
    """
    columns = [binary_auc(target == c, output[:, c], weights) for c in range(output.shape[1])]
    return np.asarray(np.mean(columns, axis=0), float)


def binary_auc(positive: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"], weights: Weights) -> Draws:
    """AUC = sum over distinct scores s of P(s) (N(<s) + N(s) / 2), over P N: the Mann-Whitney statistic.

    P(s) and N(s) are the summed weights of positive and negative cases with score s.
    """
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # where a new score begins
    positives = np.add.reduceat(weights[:, order] * positive[order], first, axis=1)
    negatives = np.add.reduceat(weights[:, order] * ~positive[order], first, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    won = np.sum(positives * (below + negatives / 2), axis=1)
    return ratio(won, positives.sum(1) * negatives.sum(1))


def auprc(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Area under the precision-recall curve, macro one-vs-rest, by average precision: no interpolation.

    AP = sum over distinct scores s, from the highest, of (recall(s) - recall(before s)) precision(s). Range 0 to 1;
    chance is the share of the class. NaN where a class has no case.
    """
    columns = [_average_precision(target == c, output[:, c], weights) for c in range(output.shape[1])]
    return np.asarray(np.mean(columns, axis=0), float)


def _average_precision(
    positive: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"], weights: Weights
) -> Draws:
    order = np.argsort(-score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)
    positives = np.add.reduceat(weights[:, order] * positive[order], first, axis=1)
    every = np.cumsum(np.add.reduceat(weights[:, order], first, axis=1), axis=1)
    precision = np.cumsum(positives, axis=1) / np.maximum(every, 1e-300)
    return ratio(np.sum(positives * precision, axis=1), positives.sum(1))


def accuracy(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Share of cases whose most probable class (the first one of equals) is the true one. Range 0 to 1."""
    return mean(weights, (output.argmax(1) == target).astype(float))


def balanced_accuracy(
    target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights
) -> Draws:
    """Mean over classes of the share of its cases that are found (recall). Range 0 to 1, chance 1 / classes.

    NaN where a class has no case.
    """
    right = output.argmax(1) == target
    found = [ratio(weights @ (right & (target == c)), weights @ (target == c)) for c in range(output.shape[1])]
    return np.asarray(np.mean(found, axis=0), float)


def f1(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Macro F1: unweighted mean over classes of 2 TP / (2 TP + FP + FN) at the most probable class. Range 0 to 1."""
    chosen, scores = output.argmax(1), []
    for c in range(output.shape[1]):
        truth, said = target == c, chosen == c
        scores.append(ratio(2 * (weights @ (truth & said)), weights @ truth.astype(int) + weights @ said.astype(int)))
    return np.asarray(np.mean(scores, axis=0), float)


def brier(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Brier score, mean over cases of sum_c (p_c - [y = c])^2 / 2. Range 0 to 1, lower is better.

    The half makes it the usual binary Brier score for two classes.
    """
    truth = target[:, None] == np.arange(output.shape[1])
    return mean(weights, ((output - truth) ** 2).sum(1) / 2)


def mae(target: Float[np.ndarray, " case"], output: Float[np.ndarray, " case"], weights: Weights) -> Draws:
    """Mean absolute error, in the unit of the target."""
    return mean(weights, np.abs(output - target))


def rmse(target: Float[np.ndarray, " case"], output: Float[np.ndarray, " case"], weights: Weights) -> Draws:
    """Root mean squared error, in the unit of the target."""
    return np.asarray(np.sqrt(mean(weights, (output - target) ** 2)))


def r2(target: Float[np.ndarray, " case"], output: Float[np.ndarray, " case"], weights: Weights) -> Draws:
    """1 - sum (y - f)^2 / sum (y - mean y)^2: at most 1, and 0 for the mean of these very cases. NaN for constant y."""
    y = target - target.mean()
    spread = mean(weights, y**2) - mean(weights, y) ** 2
    return 1 - ratio(mean(weights, (output - target) ** 2), positive(spread, target))


def pearson_r(target: Float[np.ndarray, " case"], output: Float[np.ndarray, " case"], weights: Weights) -> Draws:
    """Pearson's correlation, -1 to 1. NaN where the target or the output does not vary (the mean predictor)."""
    y, f = target - target.mean(), output - output.mean()
    mean_y, mean_f = mean(weights, y), mean(weights, f)
    spread_y = positive(mean(weights, y**2) - mean_y**2, target)
    spread_f = positive(mean(weights, f**2) - mean_f**2, output)
    return ratio(mean(weights, y * f) - mean_y * mean_f, np.sqrt(spread_y * spread_f))


def concordance_index(
    target: Float[np.ndarray, "case 2"], output: Float[np.ndarray, " case"], weights: Weights
) -> Draws:
    """Harrell's C: the share of comparable pairs in which the case with the higher risk has the earlier event.

    A pair is comparable where the earlier time is an event (at equal times: an event against a censored case).
    Equal risks count 1/2. Range 0 to 1, chance 0.5, NaN without a comparable pair (Harrell et al., JAMA 1982).
    """
    time, event = target[:, 0], target[:, 1].astype(bool)
    later = (time[:, None] < time[None]) | ((time[:, None] == time[None]) & ~event[None])
    comparable = (event[:, None] & later).astype(float)
    right = (output[:, None] > output[None]) + 0.5 * (output[:, None] == output[None])
    counts = weights.astype(float)
    won = np.einsum("dc,dc->d", counts @ (comparable * right), counts)
    return ratio(won, np.einsum("dc,dc->d", counts @ comparable, counts))


def case_mean(target: object, output: Float[np.ndarray, "case region"], weights: Weights) -> Draws:
    """Mean over regions and cases of a number that each case has already (Dice, HD95)."""
    return mean(weights, output.mean(1))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "classification", True, "", roc_auc),
        Metric("auprc", "classification", True, "", auprc),
        Metric("accuracy", "classification", True, "", accuracy),
        Metric("balanced_accuracy", "classification", True, "", balanced_accuracy),
        Metric("f1", "classification", True, "", f1),
        Metric("brier", "classification", False, "", brier),
        Metric("ece", "classification", False, "", ece, interval="none"),
        Metric("calibration_slope", "classification", True, "", calibration_slope, best=1.0),
        Metric("mae", "regression", False, "target", mae),
        Metric("rmse", "regression", False, "target", rmse),
        Metric("r2", "regression", True, "", r2),
        Metric("pearson_r", "regression", True, "", pearson_r),
        Metric("concordance_index", "survival", True, "", concordance_index),
        Metric("concordance_ipcw", "survival", True, "", concordance_ipcw),
        Metric("integrated_brier", "survival", False, "", integrated_brier, of="curves"),
        Metric("brier_skill", "survival", True, "", brier_skill, of="curves"),
        Metric("dice", "segmentation", True, "", case_mean),
        Metric("hd95_mm", "segmentation", False, "mm", case_mean),
        Metric("surface_dice", "segmentation", True, "", case_mean),
        Metric("lesionwise_dice", "segmentation", True, "", case_mean),
        Metric("lesionwise_hd95_mm", "segmentation", False, "mm", case_mean),
    )
}


def segmentation_metric(name: str) -> Metric:
    """The metric that a name is, or ends in after a region's; of several the longest (`ET_surface_dice` is no `dice`).

    Raises:
        ValueError: it ends in none.
    """
    known = [metric for metric in METRICS.values() if metric.kind == "segmentation"]
    fit = [metric for metric in known if name == metric.name or name.endswith(f"_{metric.name}")]
    if not fit:
        raise ValueError(f"{name!r} ends in no segmentation metric; known: {', '.join(one.name for one in known)}")
    return max(fit, key=lambda metric: len(metric.name))
