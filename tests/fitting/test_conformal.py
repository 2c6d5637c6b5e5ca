import numpy as np
import pytest

from braindino.fitting.conformal import class_scores, fit_conformal, from_state


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_hold_the_truth_as_often_as_promised(coverage):
    """Mean over 400 draws of 39 validation and 200 test subjects with heavy tails; theory: coverage to + 1/40."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        errors = rng.standard_t(3, size=239)
        learned = fit_conformal(np.abs(errors[:39]), np.arange(39), coverage)
        low, high = learned.interval(np.zeros(200)).T
        held.append(np.mean((low <= errors[39:]) & (errors[39:] <= high)))
    assert coverage - 0.01 < np.mean(held) < coverage + 1 / 40 + 0.01


def test_sets_of_classes_hold_the_truth_as_often_as_promised():
    rng = np.random.default_rng(1)
    held, sizes = [], []
    for _ in range(400):
        p = rng.dirichlet([0.6, 0.6, 0.6], 239)
        labels = (rng.random((239, 1)) > np.cumsum(p**0.5 / (p**0.5).sum(1, keepdims=True), 1)[:, :2]).sum(1)
        learned = fit_conformal(class_scores(p[:39], labels[:39]), np.arange(39), 0.9)
        sets = learned.plausible(p[39:])
        held.append(np.mean(sets[np.arange(200), labels[39:]]))
        sizes.append(sets.sum(1))
    assert 0.89 < np.mean(held) < 0.935
    assert min(size.min() for size in sizes) >= 1 and np.mean(sizes) < 2.9


def test_a_subject_with_many_sessions_counts_once_and_all_its_sessions_are_held():
    """Errors of one subject are alike; the sessions of one subject in ten are 20 and bad."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(200):
        sessions = np.where(rng.random(139) < 0.1, 20, 1)
        subjects = np.repeat(np.arange(139), sessions)
        errors = np.abs(rng.normal(size=139)[subjects] * np.where(sessions == 20, 5, 1)[subjects])
        errors += 0.1 * rng.random(len(errors))
        mine = subjects < 39
        learned = fit_conformal(errors[mine], subjects[mine], 0.8)
        worst = [errors[subjects == s].max() for s in range(39, 139)]
        held.append(np.mean(np.array(worst) <= learned.threshold))
    assert 0.79 < np.mean(held) < 0.84


def test_the_threshold_is_the_order_statistic_of_its_definition():
    scores = np.arange(1.0, 20.0)[::-1]
    assert fit_conformal(scores, np.arange(19), 0.9).threshold == 18  # ceil(20 * 0.9)
    assert fit_conformal(scores, np.arange(19), 0.95).threshold == 19
    assert fit_conformal(np.arange(1.0, 10.0), np.arange(9), 0.9).threshold == 9
    again = from_state(fit_conformal(scores, np.arange(19), 0.9).state())
    assert (again.coverage, again.threshold) == (0.9, 18)


def test_too_few_subjects_and_wrong_coverages_are_refused():
    with pytest.raises(ValueError, match=r"coverage 0\.9 needs 9 validation subjects, got 8"):
        fit_conformal(np.ones(16), np.repeat(np.arange(8), 2), 0.9)
    with pytest.raises(ValueError, match="needs 19 validation subjects"):
        fit_conformal(np.ones(9), np.arange(9), 0.95)
    for coverage in (0.0, 1.0, 90.0):
        with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
            fit_conformal(np.ones(9), np.arange(9), coverage)
