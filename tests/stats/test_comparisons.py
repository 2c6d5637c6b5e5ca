import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from braindino.stats.comparisons import benjamini_hochberg, delong, holm, mcnemar, paired_bootstrap, wilcoxon
from braindino.stats.intervals import bootstrap_counts

RNG = np.random.default_rng(7)


def correlated(n, gap_a, gap_b, rng=RNG):
    positive, shared = np.arange(n) % 2 == 1, rng.normal(size=n)
    return positive, *(shared + rng.normal(size=n) + gap * positive for gap in (gap_a, gap_b))


def test_delong_variance_from_the_definition():
    positive, a, b = correlated(40, 1.0, 0.5)
    a, b = a.round(1), b.round(1)

    def structural(score):
        won = np.sign(score[positive][:, None] - score[~positive][None]) / 2 + 0.5
        return won.mean(1), won.mean(0)

    (a10, a01), (b10, b01) = structural(a), structural(b)
    s10, s01 = np.cov(a10, b10), np.cov(a01, b01)
    s = s10 / 20 + s01 / 20
    z = (a10.mean() - b10.mean()) / np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    got = delong(positive, a, b)
    assert got.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)
    assert got.value == pytest.approx(roc_auc_score(positive, a) - roc_auc_score(positive, b))
    assert (got.low > 0) == (got.p < 0.05 and got.value > 0)


def test_delong_rate_of_false_alarms_and_power():
    rng = np.random.default_rng(0)
    null = np.mean([delong(*correlated(60, 1, 1, rng)).p < 0.05 for _ in range(400)])
    power = np.mean([delong(*correlated(60, 2, 0, rng)).p < 0.05 for _ in range(100)])
    assert 0.02 < null < 0.09 and power > 0.9


def test_delong_edges():
    positive, a, _ = correlated(20, 1, 1)
    assert delong(positive, a, a).p == 1
    with pytest.raises(ValueError, match="two cases of each class"):
        delong(np.array([True, False, False]), np.arange(3.0), np.arange(3.0))


def test_mcnemar():
    a, b = RNG.random(80) < 0.8, RNG.random(80) < 0.6
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert mcnemar(np.ones(5, bool), np.zeros(5, bool)) == pytest.approx(2 / 32)
    assert mcnemar(a, a) == 1


def test_wilcoxon():
    a = RNG.normal(size=30)
    b = a + RNG.normal(0.3, 1, size=30)
    assert wilcoxon(a, b) == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert wilcoxon(a, a) == 1


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    p = RNG.random(12) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    assert np.isnan(holm([np.nan])).all() and len(holm([])) == 0


def test_benjamini_hochberg():
    np.testing.assert_allclose(benjamini_hochberg([0.01, 0.04, 0.03, 0.5]), [0.04, 4 / 3 * 0.04, 4 / 3 * 0.04, 0.5])
    p = RNG.random(12) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
    np.testing.assert_allclose(benjamini_hochberg([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    assert np.isnan(benjamini_hochberg([np.nan])).all() and len(benjamini_hochberg([])) == 0


def drawn_means(x, draws=2000):
    counts = bootstrap_counts([f"s{n}" for n in range(len(x))], draws=draws)
    return counts @ x / len(x), (x.sum() - x) / (len(x) - 1)


def test_paired_bootstrap_of_means_is_near_the_paired_t_test():
    rng = np.random.default_rng(2)
    for gap in (0.0, 0.2, 0.5):
        a, b = rng.normal(gap, 1, 50), rng.normal(0, 1, 50)
        (of_a, out_a), (of_b, out_b) = drawn_means(a, 8000), drawn_means(b, 8000)
        got = paired_bootstrap(of_a, of_b, a.mean() - b.mean(), out_a - out_b)
        theirs = stats.ttest_rel(a, b)
        assert got.p == pytest.approx(theirs.pvalue, abs=0.03)
        np.testing.assert_allclose([got.low, got.high], theirs.confidence_interval(0.95), atol=0.08)


def test_p_and_interval_say_the_same():
    rng, agreed = np.random.default_rng(4), 0
    for _ in range(60):
        x = rng.gamma(2, 1, 25) - 2 + rng.normal(0.4, 0.2)
        drawn, out = drawn_means(x, 1000)
        got = paired_bootstrap(drawn, np.zeros(1000), x.mean(), out)
        agreed += (got.low <= 0 <= got.high) == (got.p >= 0.05)
    assert agreed >= 59  # quantiles interpolate between draws


def test_paired_bootstrap_edges():
    drawn, out = drawn_means(RNG.normal(size=30))
    same = paired_bootstrap(drawn, drawn, 0.0, out - out)
    assert same.p == 1 and same.low == same.high == 0
    apart = paired_bootstrap(drawn + 9, drawn, 9.0, out + 9 - out)
    assert 0 < apart.p < 0.01 and apart.low == pytest.approx(9) == apart.high
    broken = paired_bootstrap(np.full(999, np.nan), drawn[:999], np.nan, out)
    assert np.isnan([broken.low, broken.high, broken.p]).all()
    with pytest.raises(ValueError, match="same draws"):
        paired_bootstrap(drawn, drawn[1:], 0.0, out)
