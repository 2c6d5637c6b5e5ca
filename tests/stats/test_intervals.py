import numpy as np
import pytest

from braindino.stats.intervals import bootstrap_counts, interval, percentile_interval
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
