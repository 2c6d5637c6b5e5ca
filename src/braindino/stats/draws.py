"""Weights: how often each case counts in each draw, and sums over them.

Every metric takes `weights` (draw, case). A row of ones is the plain metric, a row of bootstrap counts a resampled
one, a row with zeros for one subject a jackknifed one: no interval or test needs a loop over draws.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num

Draws = Float[np.ndarray, " draw"]
Weights = Num[np.ndarray, "draw case"]


def mean(weights: Weights, values: Float[np.ndarray, " case"]) -> Draws:
    """Weighted mean of the cases' values in each draw; NaN in a draw without cases."""
    return ratio(weights @ values, weights.sum(1))


def ratio(above: Num[np.ndarray, ...], below: Num[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """above / below, NaN where below is 0 (or NaN)."""
    out = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=out, where=below != 0)
    return out


def positive(variance: Draws, values: Float[np.ndarray, " case"]) -> Draws:
    """A variance, NaN where it is 0 but for rounding."""
    return np.where(variance > 1e-12 * (1e-300 + np.max(values**2, initial=0)), variance, np.nan)
