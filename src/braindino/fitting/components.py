"""Principal components of the training features, for heads whose steps solve a system of equations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Components:
    """Standardise, rotate, divide by the deviation of the first component, so that a penalty has one meaning."""

    mean: Float[np.ndarray, " feature"]
    rotation: Float[np.ndarray, "feature component"]

    def of(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject component"]:
        """Scores of `x`; the first one has unit variance in training."""
        return np.asarray((x - self.mean) @ self.rotation)


def components(x: Float[np.ndarray, "subject feature"], most: int) -> Components:
    """The first min(`most`, subjects - 1, rank) principal components of the standardised training features."""
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-8 * (np.abs(mean) + 1e-8), scale, 1.0)
    _, values, basis = np.linalg.svd((x - mean) / scale, full_matrices=False)
    keep = min(most, len(x) - 1, max(1, int(np.sum(values > 1e-9 * max(values.max(), 1.0)))))
    return Components(mean, basis[:keep].T / max(values[0] / np.sqrt(len(x)), 1e-9) / scale[:, None])
