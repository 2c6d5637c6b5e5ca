import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from braindino.heads.cox import _RiskSets, fit, maximise

RNG = np.random.default_rng(1)


def cohort(n=80, dim=3, step=1.0):
    x = RNG.normal(size=(n, dim))
    time, censored = RNG.exponential(10 * np.exp(-x[:, 0])), RNG.exponential(15, n)
    y = np.stack([np.ceil(np.minimum(time, censored) / step) * step, time <= censored], 1).astype(float)
    return x, y


def lifelines_fit(x, y, **settings):
    table = pd.DataFrame(x).assign(time=y[:, 0], event=y[:, 1])
    table.columns = [str(name) for name in table.columns]
    return CoxPHFitter(**settings).fit(table, "time", "event", fit_options={"precision": 1e-10})


@pytest.mark.parametrize("step", [1e-6, 3.0])
def test_coefficients_and_likelihood_agree_with_lifelines(step):
    """Without and with many ties (Efron)."""
    x, y = cohort(step=step)
    theirs = lifelines_fit(x, y)
    sets = _RiskSets.of(x, y)
    beta = maximise(sets, 0.0, np.zeros(3))
    np.testing.assert_allclose(beta, theirs.params_, atol=1e-4)
    value, _, curvature = sets.derivatives(beta)
    assert value == pytest.approx(theirs.log_likelihood_, abs=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(curvature))), theirs.standard_errors_, rtol=1e-4)


def test_derivatives_by_differences():
    x, y = cohort(step=3.0)
    sets, beta, tiny = _RiskSets.of(x, y), np.array([0.5, -0.2, 0.1]), 1e-5
    _, gradient, curvature = sets.derivatives(beta)
    for axis in range(3):
        step = tiny * np.eye(3)[axis]
        up, down = sets.derivatives(beta + step), sets.derivatives(beta - step)
        assert (up[0] - down[0]) / (2 * tiny) == pytest.approx(gradient[axis], abs=1e-5)
        np.testing.assert_allclose((up[1] - down[1]) / (2 * tiny), -curvature[axis], atol=1e-4)


def test_likelihood_by_hand():
    """Two subjects tied at time 1, one later, all risks equal: Efron gives -log 3 - log 2."""
    sets = _RiskSets.of(np.zeros((3, 1)), np.array([[1.0, 1], [1, 1], [2, 0]]))
    assert sets.derivatives(np.zeros(1))[0] == pytest.approx(-np.log(6))


def test_risk_is_zero_at_the_training_median():
    x, y = cohort()
    head = fit(x, y, cohort(40), kind="survival")
    assert np.median(head.predict(x)) == pytest.approx(0, abs=1e-12)
    assert np.corrcoef(head.predict(x)[:, 0], x[:, 0])[0, 1] > 0.9


def test_censored_subjects_matter():
    """A censored subject was at risk: dropping it changes the answer."""
    x, y = cohort()
    kept = maximise(_RiskSets.of(x, y), 1.0, np.zeros(3))
    events = y[:, 1] > 0
    dropped = maximise(_RiskSets.of(x[events], y[events]), 1.0, np.zeros(3))
    assert np.abs(kept - dropped).max() > 0.01


def test_refusals():
    x, y = cohort(20)
    censored = np.stack([y[:, 0], np.zeros(20)], 1)
    with pytest.raises(ValueError, match="training: 0 events"):
        fit(x, censored, (x, y), kind="survival")
    with pytest.raises(ValueError, match="validation: 0 events"):
        fit(x, y, (x, censored), kind="survival")
    with pytest.raises(ValueError, match="finite"):
        fit(x, np.where(y > 0, y, np.nan), (x, y), kind="survival")
