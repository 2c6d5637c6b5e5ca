"""How unlike the training subjects a new one is: Mahalanobis distance, as its place among the validation subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

MAX_COMPONENTS = 64


@dataclass(frozen=True)
class Domain:
    """A normal distribution of the training features, and the distances that validation subjects have from it."""

    mean: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    basis: Float[np.ndarray, "component feature"]
    variance: Float[np.ndarray, " component"]
    """Along each component, of standardised features."""
    floor: float
    """Variance along every other direction."""
    reference: Float[np.ndarray, " subject"]
    """Distances of the validation subjects, sorted."""

    def distance(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, " subject"]:
        """Mahalanobis distance, in deviations; its root mean square over the training subjects is about sqrt(dim)."""
        z = (x - self.mean) / self.scale
        along = z @ self.basis.T
        rest = np.maximum((z**2).sum(1) - (along**2).sum(1), 0)
        return np.asarray(np.sqrt((along**2 / self.variance).sum(1) + rest / self.floor))

    def percentile(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, " subject"]:
        """Share of the validation subjects (%) that are nearer to the training subjects; 100: further than all."""
        nearer = np.searchsorted(self.reference, self.distance(x), side="left")
        return np.asarray(100 * nearer / len(self.reference))

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned."""
        names = ("mean", "scale", "basis", "variance", "reference")
        return {**{name: getattr(self, name) for name in names}, "floor": np.array([self.floor])}


def from_state(state: Mapping[str, np.ndarray]) -> Domain:
    """The inverse of `Domain.state`."""
    mean, scale, basis, variance, reference = (
        np.asarray(state[name], float) for name in ("mean", "scale", "basis", "variance", "reference")
    )
    return Domain(mean, scale, basis, variance, float(state["floor"][0]), reference)


def fit_domain(x: Float[np.ndarray, "subject feature"], validation: Float[np.ndarray, "held feature"]) -> Domain:
    """Mean and covariance of the standardised training features, shrunk towards a multiple of the identity.

    Lee 2018 measures distances to classes; here it is one distance to all training subjects. The shrinkage is Ledoit
    and Wolf's (2004). Beyond the first `MAX_COMPONENTS` components every direction has their mean variance.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-8 * (np.abs(mean) + 1e-8), scale, 1.0)
    z = (x - mean) / scale
    _, values, basis = np.linalg.svd(z, full_matrices=False)
    variance, dim = values**2 / len(x), x.shape[1]
    share = float(ledoit_wolf_shrinkage(z, assume_centered=True)) if len(x) > 1 else 1.0
    target = max(float(variance.sum()) / dim, 1e-12)
    keep = min(MAX_COMPONENTS, int(np.sum(variance > 1e-12 * target)))
    rest = float(variance[keep:].sum()) / max(dim - keep, 1)
    floor = max((1 - share) * rest + share * target, 1e-6 * target)
    along = np.maximum((1 - share) * variance[:keep] + share * target, floor)
    found = Domain(mean, scale, basis[:keep], along, floor, np.zeros(0))
    return replace(found, reference=np.sort(found.distance(validation)))
