import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index as lifelines_c

from braindino.stats.censoring import (
    Curves,
    brier_at,
    brier_skill,
    concordance_ipcw,
    integrated_brier,
    observed_share,
    surviving_share,
)

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
    np.testing.assert_allclose(brier_at(target(time, event), Curves(at, said), ONE)[0], expected)
    area = np.trapezoid(expected, at) / 0.8
    assert integrated_brier(target(time, event), Curves(at, said), ONE)[0] == pytest.approx(area)
    half = integrated_brier(target(time, event), Curves(at, np.full((60, 3), 0.5)), ONE)
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
        assert brier_at(target(time, event), Curves(at, said), ONE)[0, column] == pytest.approx(total / 60)


def test_integrated_brier_by_hand():
    """Events at 1 and 4, censored at 2, alive at 5: G(1-) = G(1) = 1, G(3) = G(4-) = 2/3.

    BS(1) = (0.6^2 + 0.2^2 + 0.1^2 + 0.3^2) / 4; at 3 the censored case is left out and the two later ones count 3/2.
    """
    told = np.array([[0.6, 0.5], [0.8, 0.9], [0.9, 0.8], [0.7, 0.4]])
    first = (0.6**2 + 0.2**2 + 0.1**2 + 0.3**2) / 4
    second = (0.5**2 + 1.5 * (0.2**2 + 0.6**2)) / 4
    who = target([1.0, 2, 4, 5], [1, 0, 1, 0])
    curves, one = Curves(np.array([1.0, 3.0]), told), np.ones((1, 4))
    assert integrated_brier(who, curves, one)[0] == pytest.approx((first + second) / 2)
    # Kaplan-Meier is 3/4 at 1 and at 3
    reference = ((0.75**2 + 3 * 0.25**2) / 4 + (0.75**2 + 1.5 * 2 * 0.25**2) / 4) / 2
    assert brier_skill(who, curves, one)[0] == pytest.approx(1 - (first + second) / 2 / reference)


def test_kaplan_meier_has_no_skill_and_is_that_of_lifelines():
    time, event, risk = cohort()
    at = np.array([0.1, 0.3, 0.6, 0.9])
    theirs = KaplanMeierFitter().fit(time, event).predict(at).to_numpy()
    np.testing.assert_allclose(surviving_share(time, event, ONE, at)[0], theirs)
    same = Curves(at, np.tile(theirs, (60, 1)))
    assert brier_skill(target(time, event), same, ONE)[0] == pytest.approx(0, abs=1e-12)
    better = Curves(at, np.exp(-at * np.exp(0.5 * risk)[:, None]))
    assert 0 < brier_skill(target(time, event), better, ONE)[0] < 1
    tied = np.ceil(time * 5)
    lifelines = KaplanMeierFitter().fit(tied, event).predict([1, 2, 3]).to_numpy()
    np.testing.assert_allclose(surviving_share(tied, event, ONE, np.array([1.0, 2, 3]))[0], lifelines)


@pytest.mark.parametrize("metric", [integrated_brier, brier_skill])
def test_brier_weights_are_repeats(metric):
    time, event, _ = cohort()
    at, said = np.array([0.2, 0.4, 0.6]), RNG.random((60, 3))
    counts = RNG.integers(0, 3, (2, 60))
    got = metric(target(time, event), Curves(at, said), counts)
    again = [metric(target(*(np.repeat(x, c) for x in (time, event))), Curves(at, np.repeat(said, c, axis=0)),
                    np.ones((1, c.sum())))[0] for c in counts]  # fmt: skip
    np.testing.assert_allclose(got, again)


def test_brier_is_undefined_without_two_moments_or_anybody_left():
    who, said = target([1.0, 2, 3, 4], [1, 1, 1, 0]), np.full((4, 2), 0.5)
    for at in ([2.0], [2.0, 4.0]):
        for metric in (integrated_brier, brier_skill):
            assert np.isnan(metric(who, Curves(np.array(at), said[:, : len(at)]), np.ones((1, 4)))[0])
    who[3, 1] = 1  # the last one known to have the event: at 4 all have
    assert integrated_brier(who, Curves(np.array([2.0, 4.0]), said), np.ones((1, 4)))[0] == 0.25


def test_curves_are_cut_where_few_are_left():
    curves = Curves(np.array([1.0, 2, 3]), np.arange(12.0).reshape(4, 3))
    early = curves.until(np.array([1.5, 2.0, 2.5, 4.0]), 2)
    assert early.at.tolist() == [1, 2] and early.survival.tolist() == [[0, 1], [3, 4], [6, 7], [9, 10]]
    assert len(curves[np.array([True, False, False, True])]) == 2


def test_refusals():
    with pytest.raises(ValueError, match="must rise"):
        Curves(np.array([0.5, 0.4]), np.ones((60, 2)))
    with pytest.raises(ValueError, match="shape"):
        Curves(np.array([0.1, 0.2]), np.ones((60, 3)))
