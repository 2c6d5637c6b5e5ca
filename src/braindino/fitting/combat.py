"""ComBat: site effects in location and scale, shrunk by empirical Bayes (Johnson 2007), learned in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

STEPS = 200
TOLERANCE = 1e-6
"""Largest relative change at which the iteration of the posterior means has ended."""


@dataclass(frozen=True)
class Combat:
    """x of site s becomes (x - mean - deviation shift_s) / scale_s + mean."""

    sites: tuple[str, ...]
    mean: Float[np.ndarray, " feature"]
    deviation: Float[np.ndarray, " feature"]
    """Pooled over the sites, after their means and the covariates."""
    shift: Float[np.ndarray, "site feature"]
    """gamma* of the paper: the site's additive effect, in deviations."""
    scale: Float[np.ndarray, "site feature"]
    """Root of delta*^2: the site's deviation over the pooled one."""

    def knows(self, site: str) -> bool:
        """Whether the site was among the training subjects'."""
        return site in self.sites

    def apply(
        self, x: Float[np.ndarray, "subject *view feature"], sites: Sequence[str] | Shaped[np.ndarray, " subject"]
    ) -> np.ndarray:
        """`x` without the effects of its sites; the same map for each view of a subject, in the type of `x`.

        Raises:
            ValueError: a site that was not seen in training.
        """
        sites = [str(site) for site in sites]
        unseen = sorted({site for site in sites if not self.knows(site)})
        if unseen:
            raise ValueError(f"{self.unseen(unseen[0])}; leave its cases out or fit without ComBat")
        rows = [self.sites.index(site) for site in sites]
        between = (len(rows), *(1,) * (x.ndim - 2), x.shape[-1])
        shift, scale = (part[rows].reshape(between) for part in (self.shift, self.scale))
        return np.asarray((x - self.mean - self.deviation * shift) / scale + self.mean).astype(x.dtype)

    def unseen(self, site: str) -> str:
        """Why a case of this site has no answer."""
        return f"site {site!r} was not among the training sites of ComBat ({', '.join(self.sites)})"

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned; the names of the sites as UTF-8 bytes with NUL between them."""
        names = np.frombuffer("\0".join(self.sites).encode(), np.uint8).copy()
        arrays = {"mean": self.mean, "deviation": self.deviation, "shift": self.shift, "scale": self.scale}
        return {"sites": names, **arrays}


def from_state(state: Mapping[str, np.ndarray]) -> Combat:
    """The inverse of `Combat.state`."""
    sites = tuple(state["sites"].tobytes().decode().split("\0"))
    return Combat(sites, *(np.asarray(state[name], float) for name in ("mean", "deviation", "shift", "scale")))


def fit_combat(
    x: Float[np.ndarray, "subject feature"],
    sites: Sequence[str] | Shaped[np.ndarray, " subject"],
    covariates: Float[np.ndarray, "subject covariate"],
) -> Combat:
    """Learn the effects of the sites beside those of `covariates`, which are kept (Johnson, Li, Rabinovic 2007).

    x = mean + covariates b + deviation (shift_s + scale_s e) per feature. Means by least squares, the grand mean
    weighted by subjects; the posterior means of shift (normal prior) and scale^2 (inverse gamma prior) by the paper's
    iteration, priors by moments over the features. The covariates help to estimate and are not needed by `apply`, so
    that a test subject's target is never looked at.

    Raises:
        ValueError: fewer than two sites, a site without a name or with a single subject, or covariates that cannot be
            told apart from the sites.
    """
    found, which, counts = np.unique(np.asarray(sites, str), return_inverse=True, return_counts=True)
    names = found.tolist()
    if "" in names:
        raise ValueError("ComBat needs the site of every training case; the cohort does not name it for all")
    if len(names) < 2 or counts.min() < 2:
        few = f"site {names[counts.argmin()]!r} has {counts.min()}"
        raise ValueError(f"ComBat needs two sites with two training subjects each; {few} of {len(names)} sites")
    member = (which[:, None] == np.arange(len(names))).astype(float)
    design = np.hstack([member, covariates - covariates.mean(0)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("ComBat cannot tell the target from the sites: within each site it takes one value only")
    effects = np.linalg.lstsq(design, x, rcond=None)[0]
    mean = counts / counts.sum() @ effects[: len(names)]
    deviation = np.sqrt(np.mean((x - design @ effects) ** 2, axis=0))
    varies = deviation > 1e-8 * (np.abs(mean) + 1e-8)
    deviation = np.where(varies, deviation, 1.0)
    z = (x - mean - design[:, len(names) :] @ effects[len(names) :]) / deviation
    shift, scale = np.zeros((len(names), x.shape[1])), np.ones((len(names), x.shape[1]))
    for site in range(len(names)):
        shift[site, varies], scale[site, varies] = _posterior(z[which == site][:, varies])
    return Combat(tuple(names), mean, deviation, shift, scale)


def _posterior(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale of one site's standardised features: equations of the paper's section 3.2."""
    count, shift, variance = len(z), z.mean(0), z.var(0, ddof=1)
    centre, spread = shift.mean(), shift.var(ddof=1) if len(shift) > 1 else 0.0
    average, moment = variance.mean(), variance.var(ddof=1) if len(variance) > 1 else 0.0
    if spread <= 0 or moment <= 0:
        return shift, np.sqrt(np.where(variance > 0, variance, 1.0))  # a single feature has nothing to borrow
    shape, rate = (average**2 + 2 * moment) / moment, (average**3 + average * moment) / moment
    star, squared = shift, variance
    for _ in range(STEPS):
        new = (count * spread * shift + squared * centre) / (count * spread + squared)
        wide = (rate + np.sum((z - new) ** 2, 0) / 2) / (count / 2 + shape - 1)
        change = max(np.abs(new - star).max() / max(np.abs(star).max(), 1e-12), np.abs(wide / squared - 1).max())
        star, squared = new, wide
        if change < TOLERANCE:
            break
    return star, np.sqrt(squared)
