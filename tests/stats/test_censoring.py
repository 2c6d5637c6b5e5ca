import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index as lifelines_c

from braindino.stats.censoring import brier_at, concordance_ipcw, integrated_brier, observed_share

RNG = np.random.default_rng(8)
ONE = np.ones((1, 60))


def cohort(n=60, censored=True):
    risk = RNG.normal(size=n)
    death = RNG.exponential(np.exp(-risk))
    left = RNG.exponential(1.5, n) if censored else np.full(n, np.inf)
    return np.minimum(death, left), death <= left, risk + RNG.normal(size=n)


def target(time, event):
    return np.stack([time, event], 1).astype(float)


def test_share_observed_by_hand():
    """Censored at 2 (of 3 at risk) and at 4 (with an event at the same time, which comes first: alone at risk)."""
    time, event = np.array([1.0, 2, 4, 4]), np.array([True, False, True, False])
    at = np.array([0.5, 2.0, 3.0, 4.0])
    got = observed_share(time, event, np.ones((1, 4)), at, before=False)[0]
    np.testing.assert_allclose(got, [1, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(observed_share(time, event, np.ones((1, 4)), at, before=True)[0], [1, 1, 2 / 3, 2 / 3])


def test_share_observed_is_lifelines_curve_of_the_censoring():
    time, event, _ = cohort()
    at = np.linspace(0, time.max() * 0.99, 30)
    theirs = KaplanMeierFitter().fit(time, ~event).predict(at).to_numpy()
    np.testing.assert_allclose(observed_share(time, event, ONE, at, before=False)[0], theirs)


def test_uno_by_hand():
    """Events at 1 and 3 of times 1, 2c, 3, 4: G(1-) = 1, G(3-) = 2/3. Pairs of 1: won 2 of 3; of 3: won, weight 9/4."""
    got = concordance_ipcw(target([1, 2, 3, 4], [1, 0, 1, 1]), np.array([2.0, 1.0, 3.0, 0.0]), np.ones((1, 4)))
    assert got[0] == pytest.approx((2 + 9 / 4) / (3 + 9 / 4))


def test_uno_from_the_definition():
    time, event, risk = cohort()
    curve = KaplanMeierFitter().fit(time, ~event)
    won = total = 0.0
    for i in np.flatnonzero(event):
        weight = float(curve.predict(time[i] - 1e-9)) ** -2
        for j in np.flatnonzero(time > time[i]):
            won, total = won + weight * (risk[i] > risk[j]), total + weight
    assert concordance_ipcw(target(time, event), risk, ONE)[0] == pytest.approx(won / total)


def test_uno_is_harrell_without_censoring_and_nearer_the_truth_with_it():
    time, event, risk = cohort(censored=False)
    assert concordance_ipcw(target(time, event), risk, ONE)[0] == pytest.approx(lifelines_c(time, -risk, event))
    rng, apart = np.random.default_rng(0), []
    for _ in range(40):  # risk groups whose order turns over late, where most are censored: Harrell sees the early part
        group = rng.random(300) < 0.5
        death = np.where(group, rng.weibull(3.0, 300), rng.exponential(1.0, 300))
        left = rng.exponential(0.8, 300)
        seen = target(np.minimum(death, left), death <= left)
        full = lifelines_c(death, group.astype(float))
        harrell = lifelines_c(seen[:, 0], group.astype(float), seen[:, 1])
        apart.append((harrell - full, concordance_ipcw(seen, -group.astype(float), np.ones((1, 300)))[0] - full))
    harrell, uno = np.mean(apart, axis=0)
    assert abs(uno) < 0.5 * abs(harrell)


def test_brier_without_censoring_is_a_mean_square():
    time, event, _ = cohort(censored=False)
    at = np.array([0.2, 0.7, 1.0])
    said = RNG.random((60, 3))
    expected = ((said - (time[:, None] > at)) ** 2).mean(0)
    np.testing.assert_allclose(brier_at(target(time, event), said, at, ONE)[0], expected)
    area = np.trapezoid(expected, at) / 0.8
    assert integrated_brier(target(time, event), said, at, ONE)[0] == pytest.approx(area)
    half = integrated_brier(target(time, event), np.full((60, 3), 0.5), at, ONE)
    assert half[0] == pytest.approx(0.25)


def test_brier_from_the_definition():
    time, event, _ = cohort()
    curve = KaplanMeierFitter().fit(time, ~event)
    at, said = np.array([0.3, 0.6]), RNG.random((60, 2))
    for column, moment in enumerate(at):
        total = 0.0
        for n in range(60):
            if time[n] <= moment and event[n]:
                total += said[n, column] ** 2 / float(curve.predict(time[n] - 1e-9))
            elif time[n] > moment:
                total += (1 - said[n, column]) ** 2 / float(curve.predict(moment))
        assert brier_at(target(time, event), said, at, ONE)[0, column] == pytest.approx(total / 60)


def test_brier_weights_are_repeats():
    time, event, _ = cohort()
    at, said = np.array([0.2, 0.4, 0.6]), RNG.random((60, 3))
    counts = RNG.integers(0, 3, (2, 60))
    got = integrated_brier(target(time, event), said, at, counts)
    again = [integrated_brier(target(*(np.repeat(x, c) for x in (time, event))), np.repeat(said, c, axis=0), at,
                              np.ones((1, c.sum())))[0] for c in counts]  # fmt: skip
    np.testing.assert_allclose(got, again)


def test_refusals():
    time, event, _ = cohort()
    for at in ([0.5], [0.5, 0.4], [0.5, 1e9]):
        with pytest.raises(ValueError, match="rising moments"):
            integrated_brier(target(time, event), np.ones((60, len(at))), np.array(at), ONE)
    with pytest.raises(ValueError, match="shape"):
        integrated_brier(target(time, event), np.ones((60, 3)), np.array([0.1, 0.2]), ONE)
