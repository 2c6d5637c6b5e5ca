"""Deformations stay invertible, tissue loss is exact, outcomes follow their hazard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.ndimage import gaussian_filter, map_coordinates

from braindino.synthesis import deform
from braindino.synthesis.atrophy import grow_csf
from braindino.synthesis.effects import Effects
from braindino.synthesis.outcomes import draw_survival, log_hazard


def ball(size: int, radius: float) -> np.ndarray:
    return (((np.indices((size,) * 3) - size // 2) ** 2).sum(0)) < radius**2


def test_exponential_of_a_constant_is_a_translation() -> None:
    velocity = np.zeros((3, 12, 12, 12), np.float32)
    velocity[1] = 5.0
    assert np.allclose(deform.exponential(velocity), velocity, atol=1e-4)


def test_exponential_of_a_linear_velocity() -> None:
    # v(x) = c x has the flow x e^c; near the fixed point nothing reaches the border.
    nodes = (np.indices((33, 33, 33)) - 16).astype(np.float32) * deform.GRID_MM
    u = deform.exponential(0.2 * nodes)[:, 10:23, 10:23, 10:23]
    x = nodes[:, 10:23, 10:23, 10:23]
    # 2^6 steps of 1 + c / 64 each: (1 + 0.2 / 64)^64
    assert np.allclose(u, x * ((1 + 0.2 / 64) ** 64 - 1), atol=1e-2)
    assert deform.jacobian(u)[6, 6, 6] == pytest.approx(np.exp(0.6), rel=5e-3)


@pytest.mark.parametrize("seed", range(3))
def test_random_maps_are_diffeomorphic_and_invertible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    velocity = deform.random_velocity(rng, (30, 34, 28), 18.0, 5.0)
    assert np.sqrt((velocity**2).sum(0).mean()) == pytest.approx(5.0, rel=1e-4)
    forward, backward = deform.exponential(velocity), deform.exponential(-velocity)
    assert deform.jacobian(forward).min() > 0
    there = np.indices(forward.shape[1:]) + forward / deform.GRID_MM
    back = forward + np.stack([map_coordinates(part, there, order=1, mode="nearest") for part in backward])
    assert np.abs(back[:, 5:-5, 5:-5, 5:-5]).max() < 0.25


def test_push_moves_the_surface_by_its_amplitude() -> None:
    region = ball(48, 8)  # radius 16 mm at 2 mm
    spacing = np.full(3, 2.0)
    unit = deform.push(region, spacing, 14.0)
    amplitudes, volumes = deform.growth_curve(region.astype(np.float32), unit, spacing)
    assert np.all(np.diff(volumes) > 0)
    assert volumes[4] == pytest.approx(region.sum() * 8 / 1000, rel=1e-3)
    # Moving a surface of radius 16 mm by 2 mm: (18 / 16)^3 = 1.42, somewhat less as the push decays outward.
    assert 1.2 < volumes[amplitudes == 2.0][0] / volumes[4] < 1.45
    assert all(deform.jacobian(deform.exponential(unit * np.float32(a))).min() > 0 for a in (-16, 8))


@pytest.mark.parametrize("loss", [-0.05, 0.01, 0.08])
def test_loss_is_exact_and_next_to_csf(loss: float) -> None:
    csf = gaussian_filter(ball(32, 6).astype(np.float32), 1)
    fractions = np.stack([csf, 0.6 * (1 - csf), 0.4 * (1 - csf)]).astype(np.float32)
    region = np.zeros((32, 32, 32), bool)
    region[16:28, 4:28, 4:28] = True
    after = grow_csf(fractions, region, loss, np.full(3, 1.5))
    tissue, left = fractions[1:, region].sum(), after[1:, region].sum()
    assert 1 - left / tissue == pytest.approx(loss, abs=2e-4)
    assert np.allclose(after.sum(0), fractions.sum(0), atol=1e-5)
    assert after.min() >= -1e-6
    changed = np.abs(after[0] - csf)
    distance = np.sqrt(((np.indices((32, 32, 32)) - 16) ** 2).sum(0))
    assert changed[region & (distance < 13)].sum() > 0.99 * changed[region].sum()


def test_hazard_by_hand() -> None:
    effects = Effects()
    assert log_hazard(55.0, 60.0, False, effects) == 0
    expected = effects.log_hazard_per_doubling + 2 * effects.log_hazard_per_decade + effects.log_hazard_mutant
    assert log_hazard(110.0, 80.0, True, effects) == pytest.approx(expected)


def test_median_survival_without_censoring() -> None:
    from dataclasses import replace

    effects = replace(Effects(), follow_up_days=(1e9, 1e9 + 1))
    rng = np.random.default_rng(0)
    days = [draw_survival(rng, 0.0, effects)[0] for _ in range(4000)]
    assert np.median(days) == pytest.approx(effects.survival_median_days, rel=0.05)


def test_cox_model_recovers_the_hazard() -> None:
    effects, rng = Effects(), np.random.default_rng(5)
    rows = []
    for _ in range(400):
        volume = effects.tumour_median_ml * float(np.exp(0.5 * rng.standard_normal()))
        age, mutant = float(rng.uniform(30, 85)), bool(rng.random() < 0.4)
        days, event = draw_survival(rng, log_hazard(volume, age, mutant, effects), effects)
        rows.append((np.log2(volume), age / 10, int(mutant), days, event))
    table = pd.DataFrame(rows, columns=["doublings", "decades", "mutant", "days", "event"])
    assert 0.5 < table.event.mean() < 0.95
    fit = CoxPHFitter().fit(table, "days", "event")
    truth = pd.Series(
        {
            "doublings": effects.log_hazard_per_doubling,
            "decades": effects.log_hazard_per_decade,
            "mutant": effects.log_hazard_mutant,
        }
    )
    assert (np.sign(fit.params_) == np.sign(truth)).all()
    assert ((fit.params_ - truth).abs() < 3 * fit.standard_errors_).all()
