"""Do probabilities mean what they say? Expected calibration error and calibration slope."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Num

from braindino.stats.draws import Draws, Weights, ratio

BINS = 10
LEAST = 1e-6
"""Probabilities are held this far from 0 and 1 before their logit is taken."""
STEPS = 40


def ece(target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights) -> Draws:
    """Expected calibration error: sum over bins of (cases in it / cases) |accuracy - mean confidence|.

    Confidence is the largest probability of a case, in 10 bins of equal width, [0, 0.1) to [0.9, 1]. Range 0 to 1,
    lower is better (Guo et al., ICML 2017). On few cases it is too large: even a perfectly calibrated model shows
    about the sampling error of the bins.
    """
    confidence = output.max(1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)[:, None] == np.arange(BINS)
    gaps = weights @ (bins * ((output.argmax(1) == target) - confidence)[:, None])
    return ratio(np.abs(gaps).sum(1), weights.sum(1))


def calibration_slope(
    target: Num[np.ndarray, " case"], output: Float[np.ndarray, "case class"], weights: Weights
) -> Draws:
    """Slope b of the logistic regression logit P(y = c) = a + b logit(p_c), mean over classes c against the rest.

    1 is right, below 1 the probabilities are too extreme (overfitted), above 1 too timid, 0 says nothing (Cox 1958;
    Van Calster et al., BMC Medicine 2019). Probabilities are first held within 1e-6 and 1 - 1e-6. NaN where a class has
    no case or all, where p_c does not vary, or where p_c separates the classes, so that the slope has no bound.
    """
    p = np.clip(output, LEAST, 1 - LEAST)
    logit = np.log(p / (1 - p))
    slopes = [_logistic_slope(logit[:, c], target == c, weights) for c in range(output.shape[1])]
    return np.asarray(np.mean(slopes, axis=0), float)


def _logistic_slope(x: Float[np.ndarray, " case"], positive: Bool[np.ndarray, " case"], weights: Weights) -> Draws:
    """Newton's method on the weighted log likelihood of (a, b), all draws at once; NaN where it does not converge."""
    if np.ptp(x) < 1e-9 * max(1.0, float(np.abs(x).max(initial=0))):
        return np.full(len(weights), np.nan)
    scale, middle = x.std(), x.mean()
    x = (x - middle) / scale
    a, b = np.zeros((2, len(weights)))
    good, done = np.ones(len(weights), bool), np.zeros(len(weights), bool)
    for _ in range(STEPS):
        on = good & ~done
        if not on.any():
            break
        own = weights[on]
        mu = 1 / (1 + np.exp(-np.clip(a[on, None] + b[on, None] * x, -500, 500)))
        left = own * (positive - mu)
        spread = own * mu * (1 - mu)
        h, hx, hxx = spread.sum(1), spread @ x, spread @ (x * x)
        determinant = h * hxx - hx**2
        g, gx = left.sum(1), left @ x
        bounded = determinant > 1e-8 * np.maximum(own.sum(1), 1) ** 2
        safe = np.where(bounded, determinant, 1.0)
        step_a, step_b = (hxx * g - hx * gx) / safe, (h * gx - hx * g) / safe
        short = np.minimum(1.0, 5.0 / np.maximum(np.maximum(np.abs(step_a), np.abs(step_b)), 1e-300))
        a[on] += short * step_a
        b[on] += short * step_b
        good[on] = bounded
        done[on] = np.abs(step_a) + np.abs(step_b) < 1e-9
    return np.where(good & done, b / scale, np.nan)
