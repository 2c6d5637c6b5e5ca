"""Heads as scikit-learn estimators: its own checks, and the tools that people use them with."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindino import HeadClassifier, HeadRegressor
from braindino.pipeline.head_estimators import EXPECTED, HEADS, _held_out
from braindino.record import read_table

QUICK = [HeadClassifier("knn"), HeadClassifier("linear"), HeadRegressor("linear")]
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "estimator_checks.tsv"


@parametrize_with_checks(QUICK)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_table_of_all_heads_shows_no_failure():
    """The networks take a minute; benchmarks/estimator_checks.py runs them too."""
    table = read_table(TABLE, text=("head", "kind", "not_passed"))
    assert {(row.kind, row.head) for row in table.itertuples()} == {(kind, n) for kind in HEADS for n in HEADS[kind]}
    assert (table["failed"] == 0).all() and (table["run"] > 50).all()
    for row in table.itertuples():
        assert row.not_passed == ", ".join(EXPECTED.get((row.kind, row.head), {}))


def draw(n=80, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    y = x[:, 0] + 0.3 * rng.normal(size=n)
    return x, y, np.where(y > 0, "AD", "CN")


@pytest.mark.parametrize("name", HEADS["classification"])
def test_a_classifier_in_a_pipeline_with_groups(name):
    x, _, y = draw()
    groups = np.arange(len(y)) // 2
    line = make_pipeline(StandardScaler(), HeadClassifier(name))
    assert cross_val_score(line, x, y, cv=GroupKFold(4), groups=groups).mean() > 0.65
    one = HeadClassifier(name).fit(x, y, groups=groups)
    assert list(one.classes_) == ["AD", "CN"] and set(one.predict(x)) == {"AD", "CN"}
    np.testing.assert_allclose(one.predict_proba(x).sum(1), 1)


def test_a_grid_search_over_heads():
    x, y, _ = draw()
    found = GridSearchCV(HeadRegressor(), {"head": list(HEADS["regression"])}, cv=3).fit(x, y)
    assert found.best_score_ > 0.7 and found.best_params_["head"] in HEADS["regression"]


def test_groups_are_held_out_as_a_whole_and_classes_keep_a_training_sample():
    groups = np.repeat(np.arange(20), 3)
    held = _held_out(np.zeros(60, int), groups, 0.2, 0)
    assert held.sum() == 12 and len(set(groups[held]) & set(groups[~held])) == 0
    strata = np.array([0] * 30 + [1] * 10 + [2])
    held = _held_out(strata, None, 0.2, 0)
    assert list(np.bincount(strata[held], minlength=3)) == [6, 2, 0]
    assert not np.array_equal(held, _held_out(strata, None, 0.2, 1))


def test_what_does_not_fit_is_refused():
    x, y, labels = draw(20)
    with pytest.raises(ValueError, match="'cox' does not serve classification"):
        HeadClassifier("cox").fit(x, labels)
    with pytest.raises(ValueError, match="'attention_pool' does not serve"):
        HeadRegressor("attention_pool").fit(x, y)
    with pytest.raises(ValueError, match="unknown head 'liner'; did you mean 'linear'"):
        HeadRegressor("liner").fit(x, y)
    with pytest.raises(ValueError, match="validation_fraction is 1"):
        HeadRegressor(validation_fraction=1).fit(x, y)
    with pytest.raises(ValueError, match="single sample"):
        HeadClassifier().fit(x[:2], ["AD", "CN"])
