import numpy as np
import pandas as pd
import pytest

from braindino.stats.interaction import apart
from braindino.stats.sheets import Model, Sheet

N = 80


def sheet(errors, ages, subjects=None, kind="regression", target=None):
    target = np.zeros(len(ages)) if target is None else target
    models = tuple(Model(name, "linear", 1.0, (0,), (e,), np.isfinite(e)) for name, e in errors.items())
    ids = np.array([f"s{n:03d}" for n in (np.arange(len(ages)) if subjects is None else subjects)])
    return Sheet({"kind": kind}, ids, target, ("output",), models, pd.DataFrame({"age": ages}))


def between(whole, draws=1000):
    ends = apart(whole, "age", "60-79", "20-39", draws, 0)
    return ends.difference(*ends.bench.sheet.models, "mae")


def test_difference_of_differences_by_hand():
    """Errors 1, 3 against 2, 2 in the young (difference 0), 5, 5 against 1, 3 in the old (3); who is 50 is not asked"""
    a, b = np.array([1.0, 3, 5, 5, 100]), np.array([2.0, 2, 1, 3, 0])
    ends = apart(sheet({"a": a, "b": b}, [25.0, 25, 65, 65, 50]), "age", "60-79", "20-39", 100, 0)
    assert ends.difference(*ends.bench.sheet.models, "mae").value == 3
    assert ends.bench.counts[:, :2].sum(1).tolist() == ends.bench.counts[:, 2:].sum(1).tolist() == [2] * 100
    assert not ends.large_enough(np.ones(4, bool))


def test_p_is_uniform_where_nothing_is_planted():
    ages, found = np.where(np.arange(N) % 2, 30.0, 70.0), []
    for repeat in range(60):
        rng = np.random.default_rng(repeat)
        found.append(between(sheet({"a": rng.normal(size=N), "b": 3 * rng.normal(size=N)}, ages), 200).p)
    assert np.mean(np.array(found) < 0.05) <= 0.15 and 0.35 < np.mean(np.array(found) < 0.5) < 0.65


def test_a_subject_seen_at_both_ages_is_drawn_once():
    """Its error is the same at both, so only its age's own share is left in the difference."""
    rng = np.random.default_rng(0)
    own, small = rng.normal(size=N // 2) ** 2, rng.random((2, N // 2))
    a, b = np.concatenate([own + small[0], own + small[1]]), np.zeros(N)
    ages, who = np.repeat([30.0, 70.0], N // 2), np.tile(np.arange(N // 2), 2)
    together, wrongly = (between(sheet({"a": a, "b": b}, ages, who)), between(sheet({"a": a, "b": b}, ages)))
    assert together.value == pytest.approx(wrongly.value) == pytest.approx(float((small[1] - small[0]).mean()))
    assert together.high - together.low < 0.5 * (wrongly.high - wrongly.low)


def test_classes_keep_their_size_at_both_ages():
    target, ages = np.array([0, 0, 0, 1, 1, 0, 1, 1]), np.array([30.0] * 5 + [70.0] * 3)
    two = {name: np.zeros(8) for name in "ab"}
    ends = apart(sheet(two, ages, kind="classification", target=target), "age", "60-79", "20-39", 50, 0)
    for who, size in (([0, 1, 2], 3), ([3, 4], 2), ([5], 1), ([6, 7], 2)):
        assert (ends.bench.counts[:, who].sum(1) == size).all()
