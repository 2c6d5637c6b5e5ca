import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from braindino.heads.linear import STRENGTHS, fit

RNG = np.random.default_rng(0)


def test_rotation_into_the_span_changes_nothing():
    """More features than subjects: the same ridge and logistic solution as sklearn's in all dimensions."""
    x, seen = RNG.normal(3, 2, size=(30, 80)), RNG.normal(3, 2, size=(25, 80))
    scaler = StandardScaler().fit(x)
    y = x[:, 0] + RNG.normal(size=30)
    head = fit(x, y, (seen, seen[:, 0]), kind="regression")
    theirs = Ridge(alpha=head.strength).fit(scaler.transform(x), y)
    np.testing.assert_allclose(head.predict(seen)[:, 0], theirs.predict(scaler.transform(seen)), atol=1e-8)
    for classes in (2, 3):
        labels = np.arange(30) % classes
        head = fit(x + labels[:, None] / 2, labels, (seen, np.arange(25) % classes), kind="classification")
        scaler = StandardScaler().fit(x + labels[:, None] / 2)
        theirs = LogisticRegression(C=1 / head.strength, tol=1e-10, max_iter=20000)
        theirs.fit(scaler.transform(x + labels[:, None] / 2), labels)
        np.testing.assert_allclose(head.predict(seen), theirs.predict_proba(scaler.transform(seen)), atol=2e-3)


def test_noise_asks_for_a_strong_penalty_and_signal_for_a_weak_one():
    x, seen = RNG.normal(size=(80, 20)), RNG.normal(size=(40, 20))
    strong = fit(x, RNG.normal(size=80), (seen, RNG.normal(size=40)), kind="regression").strength
    weak = fit(x, x @ np.ones(20), (seen, seen @ np.ones(20)), kind="regression").strength
    assert strong > 100 * weak


def test_a_small_validation_set_does_not_decide_alone():
    """One validation subject at the training mean asks for an infinite penalty; the folds see the signal."""
    x = RNG.normal(size=(80, 20))
    y = x @ np.ones(20)
    head = fit(x, y, (RNG.normal(size=(1, 20)), np.array([y.mean()])), kind="regression")
    assert np.corrcoef(head.predict(x)[:, 0], y)[0, 1] > 0.99 and head.strength < 100


def test_the_strength_is_the_best_on_unseen_subjects():
    """The choice, worked out again from its definition: validation and out-of-fold errors in one mean."""
    x, seen = RNG.normal(size=(25, 8)), RNG.normal(size=(10, 8))
    y, truth = x[:, 0] + RNG.normal(size=25), seen[:, 0] + RNG.normal(size=10)
    scaler = StandardScaler().fit(x)
    z, w = scaler.transform(x), scaler.transform(seen)
    errors = {}
    for strength in STRENGTHS:
        found = [np.abs(Ridge(alpha=strength).fit(z, y).predict(w) - truth)]
        for train, held_out in KFold(5, shuffle=True, random_state=3).split(z):
            found.append(np.abs(Ridge(alpha=strength).fit(z[train], y[train]).predict(z[held_out]) - y[held_out]))
        errors[strength] = np.concatenate(found).mean()
    assert fit(x, y, (seen, truth), kind="regression", seed=3).strength == min(errors, key=errors.__getitem__)


def test_constant_features_are_harmless():
    x = np.hstack([RNG.normal(size=(30, 3)), np.full((30, 2), 0.3)])
    head = fit(x, x[:, 0], (x, x[:, 0]), kind="regression")
    assert np.isfinite(head.predict(x)).all() and np.abs(head.predict(x)[:, 0] - x[:, 0]).mean() < 0.05


def test_a_class_without_training_subject_is_refused():
    x, y = RNG.normal(size=(10, 3)), np.array(["AD", "CN"] * 5)
    with pytest.raises(ValueError, match="class MCI has no training subject"):
        fit(x, y, (x, np.array(["AD", "MCI"] * 5)), kind="classification")
    with pytest.raises(ValueError, match="nothing to tell apart"):
        fit(x, np.repeat("CN", 10), (x, np.repeat("CN", 10)), kind="classification")


def test_classes_come_in_sorted_order():
    y = np.array(["b", "a", "c"] * 10)
    x = np.stack([y == name for name in "abc"], 1) + 0.1 * RNG.normal(size=(30, 3))
    assert (np.array(["a", "b", "c"])[fit(x, y, (x, y), kind="classification").predict(x).argmax(1)] == y).all()
