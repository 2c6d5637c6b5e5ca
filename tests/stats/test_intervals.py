import numpy as np
import pytest
from scipy import stats

from braindino.stats.intervals import bca_interval, bootstrap_counts, interval, jackknife, percentile_interval
from braindino.stats.metrics import METRICS


def names(n):
    return [f"sub-{i:03d}" for i in range(n)]


def test_counts_keep_subjects_and_strata_together():
    subjects = ["a", "a", "b", "c", "d", "e"]
    strata = [0, 0, 0, 0, 1, 1]
    counts = bootstrap_counts(subjects, strata=strata, draws=500, seed=1)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 1:4].sum(1) == 3).all() and (counts[:, 4:].sum(1) == 2).all()
    assert counts.std() > 0
    np.testing.assert_array_equal(counts, bootstrap_counts(subjects, strata=strata, draws=500, seed=1))
    assert (counts != bootstrap_counts(subjects, strata=strata, draws=500, seed=2)).any()


def test_each_subject_is_drawn_once_on_average():
    counts = bootstrap_counts(names(30), draws=4000)
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.1)
    assert counts.var() == pytest.approx(1 - 1 / 30, abs=0.03)  # multinomial


@pytest.mark.parametrize("subjects", [None, [], ["a", ""], ["a", None], ["a", float("nan")]])
def test_refuses_without_subjects(subjects):
    with pytest.raises(ValueError, match="subject id"):
        bootstrap_counts(subjects)


def test_undefined_draws():
    draws = np.arange(100.0)
    draws[:4] = np.nan
    assert percentile_interval(draws)[0] == pytest.approx(np.quantile(draws[4:], 0.025))
    draws[:10] = np.nan
    assert np.isnan(percentile_interval(draws)).all()


def normal_level(units, strata=1):
    """The level at which the widened quantile is 1.96, to compare with those who do not widen."""
    freedom = units - strata
    return float(2 * stats.t.cdf(stats.norm.ppf(0.975) / np.sqrt(units / freedom), freedom) - 1)


def test_bca_agrees_with_scipy():
    x = np.random.default_rng(0).gamma(1.0, 5.0, 40)
    counts = bootstrap_counts(names(40), draws=20000)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1))
    left_out, first = jackknife(lambda w: w @ x / w.sum(1), names(40))
    np.testing.assert_allclose(left_out, [(x.sum() - one) / 39 for one in x])
    got = bca_interval(x.mean(), counts @ x / 40, left_out, level=normal_level(40))
    np.testing.assert_allclose(got, theirs.confidence_interval, atol=0.02 * np.ptp(got))
    plain = percentile_interval(counts @ x / 40)
    assert got[0] > plain[0] and got[1] > plain[1], "moved toward the long tail"
    wider = bca_interval(x.mean(), counts @ x / 40, left_out)
    assert wider[0] < got[0] and wider[1] > got[1]
    assert first.tolist() == list(range(40))


def test_stratified_bca_agrees_with_scipy_on_two_samples():
    rng = np.random.default_rng(2)
    a, b = rng.gamma(1.0, 5.0, 30), rng.gamma(2.0, 1.0, 20)
    x, group = np.r_[a, b], np.repeat([0, 1], [30, 20])

    def function(w):
        return w @ (x * (group == 0)) / (w @ (group == 0)) - w @ (x * (group == 1)) / (w @ (group == 1))

    drawn = function(bootstrap_counts(names(50), strata=group, draws=20000))
    got = bca_interval(a.mean() - b.mean(), drawn, jackknife(function, names(50))[0], group, normal_level(50, 2))

    def gap(u, v, axis):
        return u.mean(axis) - v.mean(axis)

    theirs = stats.bootstrap((a, b), gap, n_resamples=20000, method="BCa", rng=np.random.default_rng(1))
    np.testing.assert_allclose(got, theirs.confidence_interval, atol=0.02 * np.ptp(got))


def test_jackknife_leaves_out_subjects_with_all_their_cases():
    x, subjects = np.arange(6.0), ["b", "a", "b", "c", "a", "b"]
    left_out, first = jackknife(lambda w: w @ x, subjects)
    assert left_out.tolist() == [15 - 5, 15 - 7, 15 - 3] and first.tolist() == [1, 0, 3]


def test_bca_of_the_constant_and_of_the_undefined():
    same = np.full(500, 2.0)
    assert bca_interval(2.0, same, np.full(20, 2.0)) == (2.0, 2.0)
    spread, units = np.linspace(0, 1, 500), np.linspace(0, 1, 20)
    assert np.isfinite(bca_interval(0.5, spread, units)).all()
    for broken in ((np.nan, spread, units), (0.5, np.full(500, np.nan), units), (0.5, spread, np.r_[units, np.nan])):
        assert np.isnan(bca_interval(*broken)).all()
    assert np.isnan(bca_interval(0.5, spread, np.ones(2), np.arange(2))).all(), "a stratum of one: nothing to learn"


def test_no_interval_where_none_covers():
    y = np.arange(40) % 2
    got = interval(METRICS["ece"], y, np.full((40, 2), 0.5), names(40), draws=100)
    assert np.isfinite(got.value) and np.isnan([got.low, got.high]).all()


def test_coverage_of_mean_error():
    """At n = 60, 300 repeats: the 95 % interval holds the true MAE of normal errors, sqrt(2 / pi), 90 to 99 %."""
    rng, hits, repeats = np.random.default_rng(3), 0, 300
    for repeat in range(repeats):
        got = interval(METRICS["mae"], np.zeros(60), rng.normal(size=60), names(60), draws=400, seed=repeat)
        hits += got.low <= np.sqrt(2 / np.pi) <= got.high
    assert 0.90 <= hits / repeats <= 0.99


def test_coverage_of_auc():
    """Scores N(0, 1) against N(1, 1): the true AUC is Phi(1 / sqrt 2) = 0.7602."""
    rng, hits, repeats = np.random.default_rng(4), 0, 200
    target = np.arange(60) % 2
    for repeat in range(repeats):
        p = 1 / (1 + np.exp(-(rng.normal(size=60) + target)))
        got = interval(METRICS["roc_auc"], target, np.stack([1 - p, p], 1), names(60), draws=400, seed=repeat)
        hits += got.low <= 0.7602 <= got.high
    assert 0.90 <= hits / repeats <= 0.99


def test_scans_as_subjects_would_be_too_narrow():
    """Five scans of each subject share its error: only resampling subjects covers."""
    rng, hits, repeats = np.random.default_rng(5), np.zeros(2), 150
    for repeat in range(repeats):
        error = np.abs(np.repeat(rng.normal(size=40), 5))
        for which, subjects in enumerate((np.repeat(names(40), 5), names(200))):
            got = interval(METRICS["mae"], np.zeros(200), error, subjects, draws=300, seed=repeat)
            hits[which] += got.low <= np.sqrt(2 / np.pi) <= got.high
    assert hits[0] / repeats >= 0.88 and hits[1] / repeats < 0.75
