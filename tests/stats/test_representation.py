import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from braindino.stats.representation import (
    effective_rank,
    knn_classify,
    knn_votes,
    linear_cka,
    patch_similarity,
    probe,
)

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_knn_agrees_with_sklearn(k):
    bank, queries, labels = RNG.normal(size=(60, 8)), RNG.normal(size=(25, 8)), RNG.integers(0, 3, 60)
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(bank, labels)
    np.testing.assert_allclose(knn_votes(bank, labels, queries, k, 3), theirs.predict_proba(queries))
    np.testing.assert_array_equal(knn_classify(bank, labels, queries, k), theirs.predict(queries))


def test_knn_ignores_length_and_refuses_k():
    bank = np.array([[10.0, 0.0], [0.0, 0.1]])
    assert knn_classify(bank, np.array([0, 1]), np.array([[0.1, 1.0]]), 1).tolist() == [1]
    with pytest.raises(ValueError, match="k must be"):
        knn_votes(bank, np.array([0, 1]), bank, 3, 2)


def test_cka():
    x = RNG.normal(size=(50, 6))
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    y = RNG.normal(size=(50, 4))
    a, b = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    assert linear_cka(x, y) == pytest.approx(norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b)))
    assert linear_cka(x, y) < 0.3
    assert np.isnan(linear_cka(x, np.ones((50, 2))))


def test_patch_similarity():
    patch = np.array([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [5.0, 0.0]])
    np.testing.assert_allclose(patch_similarity(patch, 0), [1, 0.5, 0, 1])


def test_effective_rank():
    assert effective_rank(np.outer(np.arange(9.0), np.ones(5)) + 3) == pytest.approx(1)
    corners = np.vstack([np.eye(4), -np.eye(4)])
    assert effective_rank(corners) == pytest.approx(4)
    assert effective_rank(np.ones((5, 3))) == 0


def test_probe_finds_a_site_and_only_a_site():
    site = np.repeat(["A", "B"], 40)
    subjects = np.array([f"s{i // 2}" for i in range(80)])
    noise = RNG.normal(size=(80, 20))
    assert probe(noise + 2 * (site == "A")[:, None], site, subjects) > 0.95
    assert 0.3 < probe(noise, site, subjects) < 0.7
    personal = np.repeat(RNG.normal(size=(40, 20)), 2, axis=0)  # a subject's cases must not tell on each other
    random_label = np.repeat(RNG.permutation(np.repeat(["A", "B"], 20)), 2)
    assert probe(personal, random_label, subjects) < 0.7
    with pytest.raises(ValueError, match="two labels"):
        probe(noise, np.repeat("A", 80), subjects)
