import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times
from statsmodels.duration.survfunc import survdiff

from braindino.stats.survival import kaplan_meier, log_rank


def test_kaplan_meier_by_hand():
    curve = kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([True, False, True, True]))
    np.testing.assert_allclose(curve.time, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(curve.survival, [1, 3 / 4, 3 / 4, 3 / 8, 0])
    np.testing.assert_allclose(curve.at_risk, [4, 4, 3, 2, 1])
    assert curve.median == 3
    assert (curve.low <= curve.survival).all() and (curve.survival <= curve.high).all()


def test_median_and_its_interval_agree_with_lifelines():
    rng = np.random.default_rng(0)
    time, left = rng.exponential(2, 60), rng.exponential(4, 60)
    fit = KaplanMeierFitter().fit(np.minimum(time, left), time <= left)
    ends = median_survival_times(fit.confidence_interval_).to_numpy()[0]
    curve = kaplan_meier(np.minimum(time, left), time <= left)
    assert (curve.median_low, curve.median, curve.median_high) == (ends[0], fit.median_survival_time_, ends[1])
    assert curve.median_low < curve.median < curve.median_high
    never = kaplan_meier(np.arange(1.0, 9), np.zeros(8, bool))
    assert never.median == never.median_high == np.inf


def test_log_rank_agrees_with_statsmodels():
    rng = np.random.default_rng(1)
    time, event, risk = rng.exponential(2, 80).round(1), rng.random(80) < 0.7, rng.normal(size=80)
    got = log_rank(time, event, risk, 0.2)
    statistic, p = survdiff(time, event, risk >= 0.2)
    assert (got.statistic, got.p) == (pytest.approx(statistic), pytest.approx(p))


def test_log_rank_by_hand():
    """Three against three, all events, fully apart: O - E = 3 - (3/6 + 2/5 + 1/4), V = 0.25 + 0.24 + 0.1875."""
    time, event = np.arange(1.0, 7), np.ones(6, bool)
    got = log_rank(time, event, np.array([1.0, 1, 1, 0, 0, 0]), 0.5)
    assert got.statistic == pytest.approx((3 - 1.15) ** 2 / 0.6775)
    assert (got.low_subjects, got.high_subjects) == (3, 3) and got.high.tolist() == [True] * 3 + [False] * 3


def test_refusals():
    with pytest.raises(ValueError, match="one side"):
        log_rank(np.arange(1.0, 4), np.ones(3, bool), np.arange(3.0), -1.0)
    with pytest.raises(ValueError, match="times"):
        kaplan_meier(np.array([1.0, np.nan]), np.ones(2, bool))
