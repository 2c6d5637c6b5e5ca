"""Linear head: logistic regression or ridge on standardised features, strength chosen on unseen subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import softmax

from braindino.fitting.targets import class_indices
from braindino.types import Kind

INVERSE_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-14, 3))
"""C of logistic regression, 1e-7 to 10; the features are standardised, so 768 of them have a length of about 28."""
STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-2, 15))
"""alpha of ridge regression, 0.1 to 1e7."""
FOLDS = 5
"""Folds of the training subjects that help the validation subjects to choose the strength."""


@dataclass(frozen=True)
class Fitted:
    """A linear map of standardised features; softmax on top where it classifies."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression")

    mean: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    weights: Float[np.ndarray, "feature output"]
    bias: Float[np.ndarray, " output"]
    strength: float
    """The chosen penalty: alpha of ridge, 1 / C of logistic regression."""

    def state(self) -> dict[str, np.ndarray]:
        """Standardisation, weights, bias and the chosen strength."""
        arrays = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        return arrays | {"strength": np.array([self.strength])}

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject output"]:
        """Class probabilities (two outputs or more), or the regressed value (one output)."""
        output = (x - self.mean) / self.scale @ self.weights + self.bias
        return np.asarray(softmax(output, axis=1) if output.shape[1] > 1 else output)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    mean, scale, weights, bias = (np.asarray(state[name], float) for name in ("mean", "scale", "weights", "bias"))
    return Fitted(mean, scale, weights, bias, float(state["strength"][0]))


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: Shaped[np.ndarray, " subject"],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """Fit on the training subjects once per strength; keep the one that predicts unseen subjects best.

    Classification: log-loss + |W|^2 / (2 C); regression: squared error + alpha |w|^2. The strength with the least mean
    loss (log-loss, absolute error) is taken, of equals the strongest; the mean runs over the validation subjects and,
    by `FOLDS`-fold cross-validation, over the training subjects, since a small validation set alone decides by chance.
    The standardised features are first rotated into their own span (at most subjects - 1 directions), which changes no
    solution of a ridge penalty and makes few subjects with many features quick. `y` holds class names (or indices) or
    target values; outputs are in the sorted order of the classes seen in training and validation. `seed` draws the
    folds.

    Raises:
        ValueError: a task of another kind, or a class without a training subject.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the linear head serves {', '.join(Fitted.kinds)}, not {kind}")
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-8 * (np.abs(mean) + 1e-8), scale, 1.0)
    standard, seen = (x - mean) / scale, (validation[0] - mean) / scale
    _, values, basis = np.linalg.svd(standard, full_matrices=False)
    basis = basis[values > 1e-9 * max(values.max(), 1.0)]
    solve, loss = (_logistic, _log_loss) if kind == "classification" else (_ridge, _absolute_error)
    truth = validation[1]
    if kind == "classification":
        y, truth = class_indices(y, truth)
    z = standard @ basis.T
    folds = _folds(y, kind, seed)
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    for strength in sorted(STRENGTHS if kind == "regression" else (1 / c for c in INVERSE_STRENGTHS), reverse=True):
        weights, bias = solve(z, y, strength)
        errors = [loss(seen @ basis.T @ weights + bias, truth)]
        for train, held_out in folds:
            fold_weights, fold_bias = solve(z[train], y[train], strength)
            errors.append(loss(z[held_out] @ fold_weights + fold_bias, y[held_out]))
        error = float(np.mean(np.concatenate(errors)))
        if best is None or error < best[0]:
            best = (error, strength, weights, bias)
    assert best is not None
    return Fitted(mean, scale, basis.T @ best[2], best[3], best[1])


def _folds(y: np.ndarray, kind: Kind, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out rows of each fold, stratified by class; none where a class has a single subject."""
    from sklearn.model_selection import KFold, StratifiedKFold

    rarest = int(np.bincount(y).min()) if kind == "classification" else len(y)
    count = min(FOLDS, rarest)
    if count < 2:
        return []
    splitter = (StratifiedKFold if kind == "classification" else KFold)(count, shuffle=True, random_state=seed)
    return list(splitter.split(y, y))


def _logistic(z: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / strength, max_iter=5000).fit(z, y)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # two classes: sigmoid(s) = softmax(-s / 2, s / 2)
        weights, bias = np.hstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def _ridge(z: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=strength).fit(z, y)
    return model.coef_.reshape(-1, 1), np.array([model.intercept_], float)


def _log_loss(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each subject."""
    chosen = softmax(output, axis=1)[np.arange(len(y)), y]
    return np.asarray(-np.log(np.maximum(chosen, 1e-12)))


def _absolute_error(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each subject."""
    return np.asarray(np.abs(output[:, 0] - y))
