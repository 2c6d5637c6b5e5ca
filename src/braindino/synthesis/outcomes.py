"""Survival with a known hazard: Weibull proportional hazards and independent censoring."""

from __future__ import annotations

import math

import numpy as np

from braindino.synthesis.effects import Effects


def log_hazard(tumour_ml: float, age: float, mutant: bool, effects: Effects) -> float:
    """Log hazard ratio eta against a 55 ml wildtype tumour at 60 years.

    eta = per_doubling log2(volume / median volume) + per_decade (age - 60) / 10 + mutant.
    """
    doublings = math.log2(max(tumour_ml, 0.1) / effects.tumour_median_ml)
    decades = (age - 60) / 10
    return (
        effects.log_hazard_per_doubling * doublings
        + effects.log_hazard_per_decade * decades
        + effects.log_hazard_mutant * mutant
    )


def draw_survival(rng: np.random.Generator, eta: float, effects: Effects) -> tuple[float, int]:
    """Days to death or to the end of follow-up, and 1 for death, 0 for censoring.

    S(t) = exp(-ln 2 (t / median)^shape e^eta) is inverted at a uniform number; censoring is uniform and
    independent of everything.
    """
    uniform = 1 - rng.random()
    death = effects.survival_median_days * (-math.log(uniform) / (math.log(2) * math.exp(eta))) ** (
        1 / effects.survival_shape
    )
    end = rng.uniform(*effects.follow_up_days)
    return round(max(min(death, end), 1.0), 1), int(death <= end)
