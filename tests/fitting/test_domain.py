import numpy as np
import pytest

from braindino.fitting.domain import fit_domain, from_state

MIX = np.random.default_rng(9).normal(size=(5, 60))


def draw(n, seed):
    """Sixty features of which five directions vary much."""
    rng = np.random.default_rng(seed)
    return 10 + rng.normal(size=(n, 5)) @ MIX + 0.3 * rng.normal(size=(n, 60))


@pytest.mark.parametrize("n", [20, 300])
def test_strangers_lie_far_and_relatives_spread_over_all_percentiles(n):
    learned = fit_domain(draw(n, 0), draw(100, 1))
    familiar = learned.percentile(draw(400, 2))
    assert 40 < familiar.mean() < 60 and np.mean(familiar > 95) < 0.12
    off = draw(100, 3)
    off += np.random.default_rng(4).normal(size=off.shape)  # leaves the five directions
    assert np.mean(learned.percentile(off) > 95) > 0.95
    assert np.all(learned.percentile(1.0 + 0 * off) == 100)


def test_distance_is_mahalanobis_where_subjects_are_many():
    x, test = draw(5000, 5), draw(50, 6)
    learned = fit_domain(x[:, :8], x[:50, :8])
    centred = test[:, :8] - x[:, :8].mean(0)
    exact = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(x[:, :8].T)), centred))
    np.testing.assert_allclose(learned.distance(test[:, :8]), exact, rtol=0.15)


def test_percentile_counts_validation_subjects_that_are_nearer():
    x, held = draw(50, 7), draw(10, 8)
    learned = fit_domain(x, held)
    order = np.argsort(learned.distance(held))
    np.testing.assert_allclose(learned.percentile(held[order]), np.arange(10) * 10)


def test_constant_features_one_subject_and_the_state():
    x = draw(30, 9)
    x[:, 3] = 1.5
    learned = fit_domain(x, draw(5, 10))
    assert np.isfinite(learned.distance(x)).all()
    again = from_state({name: array.copy() for name, array in learned.state().items()})
    np.testing.assert_array_equal(again.percentile(x), learned.percentile(x))
    assert np.isfinite(fit_domain(x[:1], x).distance(x)).all()
