import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from braindino.heads.linear import fit

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


def test_the_strength_follows_the_validation_set():
    x = RNG.normal(size=(40, 60))
    noise, signal = RNG.normal(size=40), x @ np.ones(60)
    seen = RNG.normal(size=(40, 60))
    strong = fit(x, noise, (seen, RNG.normal(size=40)), kind="regression").strength
    weak = fit(x, signal, (seen, seen @ np.ones(60)), kind="regression").strength
    assert strong > 100 * weak


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
