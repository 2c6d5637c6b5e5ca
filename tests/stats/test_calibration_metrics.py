import numpy as np
import pytest
import statsmodels.api as sm
from scipy import special
from sklearn.calibration import calibration_curve

from braindino.stats.metrics import METRICS

RNG = np.random.default_rng(3)


def probabilities(n=400, over=1.0, seed=0):
    """Calibrated for over = 1, too extreme above."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    y, p = (rng.random(n) < special.expit(logit)).astype(int), special.expit(over * logit)
    return y, np.stack([1 - p, p], 1)


def test_ece_by_hand():
    """Confidence 0.95 twice, right once: gap 0.45; 0.65 twice, right twice: gap 0.35; each half of the cases."""
    output = np.array([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [0.35, 0.65]])
    assert METRICS["ece"].value(np.array([0, 0, 0, 1]), output) == pytest.approx((0.45 + 0.35) / 2)


def test_ece_agrees_with_sklearn():
    y, p = probabilities()
    raw = RNG.random((400, 3))
    three = raw / raw.sum(1, keepdims=True)
    for target, output in ((y, p), (RNG.integers(0, 3, 400), three)):
        right, confidence = (output.argmax(1) == target).astype(int), output.max(1)
        said, meant = calibration_curve(right, confidence, n_bins=10, strategy="uniform")
        sizes = np.histogram(confidence, np.linspace(0, 1, 11))[0]
        expected = np.sum(sizes[sizes > 0] / 400 * np.abs(said - meant))
        assert METRICS["ece"].value(target, output) == pytest.approx(expected)


def test_calibration_slope_agrees_with_statsmodels():
    for over in (0.5, 1.0, 3.0):
        y, output = probabilities(over=over)
        p = np.clip(output[:, 1], 1e-6, 1 - 1e-6)
        theirs = sm.GLM(y, sm.add_constant(np.log(p / (1 - p))), family=sm.families.Binomial()).fit()
        got = METRICS["calibration_slope"].value(y, output)
        assert got == pytest.approx(theirs.params[1], rel=1e-6) and got == pytest.approx(1 / over, rel=0.3)


def test_calibration_slope_by_hand():
    """Two values of p: the fitted logits are those of the shares, so b is their distance over the distance said."""
    p = np.repeat([0.2, 0.8], 10)
    y = np.r_[np.arange(10) < 4, np.arange(10) < 6].astype(int)
    expected = (np.log(6 / 4) - np.log(4 / 6)) / (np.log(4) - np.log(1 / 4))
    assert METRICS["calibration_slope"].value(y, np.stack([1 - p, p], 1)) == pytest.approx(expected)


def test_calibration_slope_without_bound_or_spread_is_nan():
    y = np.arange(20) % 2
    apart = np.where(y == 1, 0.8, 0.3) + np.linspace(0, 0.05, 20)
    assert np.isnan(METRICS["calibration_slope"].value(y, np.stack([1 - apart, apart], 1)))
    assert np.isnan(METRICS["calibration_slope"].value(y, np.full((20, 2), 0.5)))
