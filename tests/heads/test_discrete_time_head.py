"""The logistic hazard against known hazards, curves and an independent fit; cox beside it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from braindino.fitting.components import components
from braindino.heads import cox, discrete_time
from braindino.heads.discrete_time import fit, interval_ends


def draw(n, seed, effect=(0.9, -0.9, 0.0)):
    """Exponential times with known log hazard ratios per unit of each feature, a third censored."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time, censored = rng.exponential(300 / np.exp(x @ effect)), rng.exponential(600, n)
    return x, np.stack([np.minimum(time, censored), time <= censored], 1).astype(float)


@pytest.mark.parametrize("head", [cox, discrete_time])
def test_signs_of_known_hazard_ratios(head):
    weights = head.fit(*draw(400, 0), draw(200, 1), kind="survival").weights
    assert weights[0] > 0.5 and weights[1] < -0.5 and abs(weights[2]) < 0.2


def test_equals_logistic_regression_on_a_row_per_subject_and_interval():
    """Each interval that a subject enters, written out; scikit-learn with the same penalty finds the same slope."""
    x, y = draw(300, 2)
    head = fit(x, y, draw(100, 3), kind="survival")
    space = components(x, 64)
    z, rows, happened, weight = space.of(x), [], [], []
    for subject, (time, event) in enumerate(y):
        for number, (start, end) in enumerate(zip([-np.inf, *head.ends[:-1]], head.ends, strict=True)):
            here = bool(event) and start < time <= end
            if here or time >= end:
                rows.append(np.concatenate([np.eye(len(head.ends))[number] * 30, z[subject]]))
                happened.append(here)
                weight.append(1.0)
    for number in range(len(head.ends)):  # half a subject with and half a one without event
        rows += [np.concatenate([np.eye(len(head.ends))[number] * 30, 0 * z[0]])] * 2
        happened, weight = [*happened, True, False], [*weight, 0.5, 0.5]
    model = LogisticRegression(C=1 / head.strength, fit_intercept=False, tol=1e-9, max_iter=5000)
    model.fit(np.array(rows), happened, weight)
    np.testing.assert_allclose(space.rotation @ model.coef_[0, len(head.ends) :], head.weights, atol=1e-3)


def test_curves_fall_and_meet_the_observed_shares():
    x, y = draw(2000, 4)
    head = fit(x, y, draw(500, 5), kind="survival")
    fresh, _ = draw(4000, 6)
    curves = head.survival(fresh)
    assert curves.shape == (4000, len(head.ends)) and np.all(np.diff(curves, axis=1) <= 0)
    assert np.all((curves >= 0) & (curves <= 1))
    truth = np.exp(-head.ends / 300 * np.exp(fresh @ (0.9, -0.9, 0.0))[:, None])
    # censoring inside of an interval leaves its subject out of it, which hides some of the time at risk
    assert np.abs(curves.mean(0) - truth.mean(0))[:5].max() < 0.05
    risk = head.predict(fresh)[:, 0]
    assert np.corrcoef(risk, fresh @ (0.9, -0.9, 0.0))[0, 1] > 0.98
    assert np.array_equal(np.argsort(risk), np.argsort(-curves[:, 0]))


def test_intervals_hold_events_and_end_with_the_last_one():
    _, y = draw(200, 7)
    times = y[y[:, 1] > 0, 0]
    ends = interval_ends(y, len(times))
    assert len(ends) == 10 and ends[-1] == times.max() and set(ends) <= set(times)
    counts = np.histogram(times, [0, *ends])[0]
    assert counts.min() >= 5
    assert len(interval_ends(y[:4], 2)) == 1
    tied = np.array([[5.0, 1]] * 30)
    assert list(interval_ends(tied, 30)) == [5]


def test_an_interval_that_nobody_survives_has_a_finite_hazard():
    x, y = draw(60, 8)
    y[:, 1] = 1
    head = fit(x, y, draw(40, 9), kind="survival")
    assert np.isfinite(head.base).all() and head.base[-1] > 0


def test_the_median_training_subject_has_risk_zero():
    x, y = draw(101, 10)
    assert np.median(fit(x, y, draw(50, 11), kind="survival").predict(x)) == pytest.approx(0, abs=1e-12)
