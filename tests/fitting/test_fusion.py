import numpy as np
import pytest

from braindino.fitting.fusion import ContrastWeights, fit_weights, from_state

NAMES = ("T1w", "FLAIR", "T2w")


def test_by_hand():
    """Two contrasts of one number; the second case lacks the second one, and its average stands for it."""
    weights = ContrastWeights(("a", "b"), np.array([0.75, 0.25]), np.array([[1.0], [10.0]]))
    means = np.array([[[3.0], [14.0]], [[3.0], [np.nan]]])
    assert weights.apply(means).ravel().tolist() == [0.75 * 2 + 0.25 * 4, 2]
    again = from_state(weights.state())
    assert (again.contrasts, again.weights.tolist(), again.mean.tolist()) == (("a", "b"), [0.75, 0.25], [[1], [10]])


def made(kind, seed, n=160, lacking=0.0):
    """FLAIR alone tells the target, with an offset of its own; the two others are noise."""
    rng = np.random.default_rng(seed)
    hidden, x = rng.normal(size=n), rng.normal(size=(n, 3, 24))
    x[:, 1, 0] += 1.5 * hidden
    x += np.array([0, 5, -3])[:, None]
    gone = rng.random((n, 3)) < lacking
    gone[gone.all(1)] = False
    x[gone] = np.nan
    y = {
        "classification": np.where(hidden > 0, "AD", "CN"),
        "regression": 60 + 10 * hidden,
        "survival": np.stack([rng.exponential(np.exp(-hidden)), rng.random(n) < 0.7], axis=1),
    }[kind]
    return x, y, hidden


@pytest.mark.parametrize("kind", ["classification", "regression", "survival"])
def test_the_contrast_that_tells_gets_the_weight(kind):
    x, y, _ = made(kind, 0, lacking=0.1)
    held = made(kind, 1, lacking=0.1)
    found = fit_weights(NAMES, x, y, held[:2], kind=kind)
    assert found.weights.argmax() == 1 and found.weights[1] > 0.5
    assert found.weights.sum() == pytest.approx(1) and str(found).startswith("T1w 0.")
    fresh, _, hidden = made(kind, 2)
    learned, equal = (w.apply(fresh)[:, 0] for w in (found, ContrastWeights(NAMES, np.full(3, 1 / 3), found.mean)))
    assert np.corrcoef(learned, hidden)[0, 1] > np.corrcoef(equal, hidden)[0, 1] + 0.03


def test_where_no_contrast_tells_anything_weights_stay_nearly_equal():
    x, y, _ = made("regression", 3)
    rng = np.random.default_rng(4)
    found = fit_weights(NAMES, x, rng.permutation(y), (made("regression", 5)[0], rng.permutation(y)), kind="regression")
    assert np.abs(found.weights - 1 / 3).max() < 0.15


def test_refused():
    x, y, _ = made("regression", 0)
    with pytest.raises(ValueError, match="two contrasts or more, the features hold T1w alone"):
        fit_weights(NAMES[:1], x[:, :1], y, (x[:, :1], y), kind="regression")
    x[:, 2] = np.nan
    with pytest.raises(ValueError, match="no training case has T2w"):
        fit_weights(NAMES, x, y, (x, y), kind="regression")
