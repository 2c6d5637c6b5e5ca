"""Heads as scikit-learn estimators: for pipelines, grid searches and cross-validation on a table of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from braindino import catalog
from braindino.types import Kind

HEADS: dict[str, tuple[str, ...]] = {"classification": ("knn", "linear", "mlp"), "regression": ("linear", "mlp")}
"""Heads of which the estimator checks of scikit-learn are run (benchmarks/estimator_checks.py)."""
EXPECTED: dict[tuple[str, str], dict[str, str]] = {
    ("classification", "mlp"): {
        "check_classifiers_train": "three classes of two features: LayerNorm leaves of two only which is the larger"
    }
}
"""Checks that a head must fail, with the reason."""


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A head on features that tells classes apart.

    A share of the samples is held out in `fit` to choose strengths or to stop early, as validation subjects are
    elsewhere: whole groups where `groups` are given, else drawn within each class, of which one sample always trains.

    Args:
        head: plug-in name (str) of a head for classification that needs CLS (see `braindino list heads`).
        validation_fraction: share (float, 0 to 1) that is held out.
        random_state: seed of that draw and of the head; a RandomState or None as elsewhere in scikit-learn.
    """

    def __init__(self, head: Any = "linear", *, validation_fraction: Any = 0.2, random_state: Any = 0) -> None:
        self.head = head
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> HeadClassifier:
        """Learn the head; sets `classes_`, `n_features_in_` and `fitted_`.

        Raises:
            ValueError: features that are not finite, targets that are no classes, a single class, or a class without a
                training sample.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"all samples are of one class, {self.classes_[0]}; there is nothing to tell apart")
        self.fitted_ = _fitted(self, X, labels, labels, groups, "classification")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, in the order of `classes_`: (sample, class)."""
        check_is_fitted(self)
        answer: np.ndarray = self.fitted_.predict(validate_data(self, X, dtype=np.float64, reset=False))
        return answer

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(1)])


class HeadRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A head on features that gives a value; arguments as those of `HeadClassifier`, groups drawn as a whole."""

    def __init__(self, head: Any = "linear", *, validation_fraction: Any = 0.2, random_state: Any = 0) -> None:
        self.head = head
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> HeadRegressor:
        """Learn the head; sets `n_features_in_` and `fitted_`.

        Raises:
            ValueError: features or targets that are not finite.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, y_numeric=True)
        y = column_or_1d(y, warn=True).astype(np.float64)
        self.fitted_ = _fitted(self, X, y, np.zeros(len(y), int), groups, "regression")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The value of each sample."""
        check_is_fitted(self)
        answer: np.ndarray = self.fitted_.predict(validate_data(self, X, dtype=np.float64, reset=False))
        return answer[:, 0]


def _fitted(
    estimator: HeadClassifier | HeadRegressor, x: np.ndarray, y: np.ndarray, strata: np.ndarray, groups: Any, kind: Kind
) -> Any:
    module = catalog.load("heads", estimator.head)
    if module.Fitted.needs != "cls" or kind not in module.Fitted.kinds:
        raise ValueError(f"head {estimator.head!r} does not serve {kind} on one vector per sample")
    if not 0 < estimator.validation_fraction < 1:
        raise ValueError(f"validation_fraction is {estimator.validation_fraction}, expected more than 0, less than 1")
    seed = int(check_random_state(estimator.random_state).randint(2**31))
    held = _held_out(strata, groups, estimator.validation_fraction, seed)
    return module.fit(x[~held], y[~held], (x[held], y[held]), kind=kind, seed=seed)


def _held_out(strata: np.ndarray, groups: Any, share: float, seed: int) -> np.ndarray:
    """Which samples validate: at least one, and never the only one of a stratum."""
    held = np.zeros(len(strata), bool)
    if groups is not None:
        splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
        held[next(splitter.split(strata, groups=column_or_1d(groups)))[1]] = True
        return held
    rng = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        held[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    if not held.any():
        raise ValueError(f"each class has a single sample (n_samples={len(strata)}); none can validate")
    return held
