"""Split-conformal intervals and sets: how wide an answer must be to hold the truth as often as promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


@dataclass(frozen=True)
class Conformal:
    """A score that the truth exceeds for a new subject with probability of at most 1 - coverage."""

    coverage: float
    threshold: float

    def interval(self, output: Float[np.ndarray, " subject"]) -> Float[np.ndarray, "subject 2"]:
        """Low and high: output -/+ the threshold, in the unit of the target."""
        return np.stack([output - self.threshold, output + self.threshold], 1)

    def plausible(self, probabilities: Float[np.ndarray, "subject class"]) -> Bool[np.ndarray, "subject class"]:
        """Classes whose probability is at least 1 - threshold; the most probable one always, so no set is empty."""
        best = probabilities >= probabilities.max(1, keepdims=True)
        return np.asarray((1 - probabilities <= self.threshold) | best)

    def state(self) -> dict[str, np.ndarray]:
        """Both numbers."""
        return {"numbers": np.array([self.coverage, self.threshold])}


def from_state(state: Mapping[str, np.ndarray]) -> Conformal:
    """The inverse of `Conformal.state`."""
    return Conformal(float(state["numbers"][0]), float(state["numbers"][1]))


def fit_conformal(
    scores: Float[np.ndarray, " case"], subjects: Shaped[np.ndarray, " case"], coverage: float
) -> Conformal:
    """The ceil((n + 1) coverage)-th smallest score of n validation subjects (Vovk 2005; Lei 2018).

    A subject with several sessions counts once, with its largest score: the promise is then on all sessions of a new
    subject at once. It holds on average over draws of validation and test subjects from one population.

    Args:
        scores: |target - output|, or 1 - probability of the true class (Sadinle 2019).
        subjects: whose case it is.
        coverage: share of new subjects whose truth is to be held, 0 to 1.

    Raises:
        ValueError: coverage outside (0, 1), or too few validation subjects for it.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}, expected more than 0 and less than 1, for example 0.9")
    largest = np.sort([scores[subjects == subject].max() for subject in np.unique(subjects)])
    rank = int(np.ceil((len(largest) + 1) * coverage - 1e-9))
    if rank > len(largest):
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise ValueError(
            f"coverage {coverage:g} needs {least} validation subjects, got {len(largest)}; ask for less coverage"
        )
    return Conformal(coverage, float(largest[rank - 1]))


def class_scores(
    probabilities: Float[np.ndarray, "case class"], labels: Int[np.ndarray, " case"]
) -> Float[np.ndarray, " case"]:
    """1 - probability of the true class."""
    return np.asarray(1 - probabilities[np.arange(len(labels)), labels])
