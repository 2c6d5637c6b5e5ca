import numpy as np
import pytest
from scipy.special import softmax

from braindino.fitting.calibration import fit_calibration, from_state

METHODS = ("temperature", "isotonic")


def draw(n, seed, factor=4.0):
    """Probabilities that are true, and those of a head whose logits are `factor` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3))
    true = softmax(logits, axis=1)
    labels = (rng.random((n, 1)) > np.cumsum(true, 1)[:, :2]).sum(1)
    return softmax(factor * logits, axis=1), labels, true


def nll(probabilities, labels):
    return -np.log(np.maximum(probabilities, 1e-12))[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("method", METHODS)
def test_over_confident_probabilities_become_honest_on_new_subjects(method):
    p, labels, _ = draw(400, 0)
    learned = fit_calibration(method, p, labels, np.ones(400))
    fresh, truth, best = draw(4000, 1)
    after = learned.apply(fresh)
    np.testing.assert_allclose(after.sum(1), 1)
    assert nll(after, truth) < nll(fresh, truth) - 0.3
    assert nll(after, truth) < nll(best, truth) + 0.04


def test_the_temperature_is_the_factor():
    p, labels, _ = draw(4000, 2)
    assert fit_calibration("temperature", p, labels, np.ones(4000)).value == pytest.approx(4, rel=0.08)
    p, labels, _ = draw(4000, 3, factor=0.5)
    assert fit_calibration("temperature", p, labels, np.ones(4000)).value == pytest.approx(0.5, rel=0.08)


def test_a_temperature_keeps_the_order_of_classes_and_never_raises_the_validation_loss():
    for seed in range(20):
        p, labels, _ = draw(40, 10 + seed, factor=float(seed + 1) / 4)
        learned = fit_calibration("temperature", p, labels, np.ones(40))
        assert np.array_equal(learned.apply(p).argmax(1), p.argmax(1))
        assert nll(learned.apply(p), labels) <= nll(p, labels) + 1e-9


def test_weights_count_as_copies():
    p, labels, _ = draw(60, 4)
    twice = np.r_[np.arange(60), np.arange(20)]
    weight = np.r_[np.full(20, 2.0), np.ones(40)]
    for method in METHODS:
        one = fit_calibration(method, p, labels, weight).apply(p)
        two = fit_calibration(method, p[twice], labels[twice], np.ones(80)).apply(p)
        np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_certain_and_wrong_votes_stay_finite_and_the_state_is_exact(method):
    p = np.eye(2)[[0, 0, 0, 1, 1, 1]].astype(float)
    labels = np.array([0, 0, 1, 1, 1, 0])
    learned = fit_calibration(method, p, labels, np.ones(6))
    np.testing.assert_allclose(learned.apply(p)[[0, 3]], [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], atol=0.02)
    again = from_state({name: array.copy() for name, array in learned.state().items()})
    np.testing.assert_array_equal(again.apply(p), learned.apply(p))


def test_a_few_subjects_never_make_an_isotonic_curve_certain():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    learned = fit_calibration("isotonic", p, np.array([0, 0, 1, 1]), np.ones(4))
    np.testing.assert_allclose(learned.apply(np.array([[1.0, 0.0]])), [[5 / 6, 1 / 6]])


def test_what_it_cannot_learn_from_is_refused():
    with pytest.raises(ValueError, match="unknown calibration 'none'"):
        fit_calibration("none", np.eye(2), np.array([0, 1]), np.ones(2))
    with pytest.raises(ValueError, match="class number 1 has none"):
        fit_calibration("temperature", np.eye(2), np.array([0, 0]), np.ones(2))
