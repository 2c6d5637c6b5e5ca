"""ComBat removes a planted site effect, keeps the biological one, and looks at training subjects only."""

from pathlib import Path

import numpy as np
import pytest

from braindino.fitting.combat import fit_combat, from_state
from braindino.record import read_table

SITES = np.array(["A", "B", "C"])
EFFECT = np.random.default_rng(77).normal(size=(4, 40))


def draw(n, seed, tilt=0.0):
    """Features with a class effect in ten directions, and a shift and a scale of their own at each site."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, 3, n)
    y = (rng.random(n) < 0.5 + tilt * (site - 1)).astype(float)
    x = rng.normal(size=(n, 40))
    x[:, :10] += 1.5 * y[:, None]
    scale = np.array([0.5, 1.0, 2.0])[site][:, None]
    return scale * x + 3 * EFFECT[site] + 7, SITES[site], y


def site_share(x, sites):
    """Mean over features of the part of the variance that lies between sites."""
    between = sum((sites == s).mean() * (x[sites == s].mean(0) - x.mean(0)) ** 2 for s in SITES)
    return float(np.mean(between / x.var(0)))


def test_the_site_goes_and_the_class_stays_on_subjects_that_were_not_seen():
    x, sites, y = draw(150, 0)
    learned = fit_combat(x, sites, y[:, None])
    test, test_sites, test_y = draw(600, 1)
    clean = learned.apply(test, test_sites)
    assert site_share(test, test_sites) > 0.5 and site_share(clean, test_sites) < 0.02
    spread = np.stack([clean[test_sites == s].std(0) for s in SITES])
    assert np.abs(spread / spread.mean(0) - 1).mean() < 0.12
    before = np.concatenate([test[test_sites == "B"][test_y[test_sites == "B"] == k][:, :10].mean(0) for k in (1, 0)])
    gap = clean[test_y == 1].mean(0) - clean[test_y == 0].mean(0)
    assert gap[:10].mean() > 0.8 * (before[:10] - before[10:]).mean() and np.abs(gap[10:]).mean() < 0.2


def test_a_class_that_is_commoner_at_one_site_is_not_taken_for_its_effect():
    """Without the covariate ComBat takes a part of the class away; with it the gap within sites is the gap after."""
    x, sites, y = draw(600, 2, tilt=0.4)
    gaps = {}
    for name, covariates in (("with", y[:, None]), ("without", np.zeros((600, 0)))):
        clean = fit_combat(x, sites, covariates).apply(x, sites)
        gaps[name] = (clean[y == 1].mean(0) - clean[y == 0].mean(0))[:10].mean()
    within = np.mean([(x[(sites == "B") & (y == k)].mean(0))[:10].mean() for k in (1,)])
    within -= x[(sites == "B") & (y == 0)].mean(0)[:10].mean()
    assert gaps["with"] > 0.85 * within and gaps["without"] < 0.85 * gaps["with"]


def test_the_numbers_are_those_of_the_python_original():
    """Posterior shift and scale of neuroCombat 0.2.12 on the same data, as benchmarks/combat_peer.py wrote them."""
    x, sites, y = draw(90, 5, tilt=0.2)
    learned = fit_combat(x, sites, y[:, None])
    theirs = read_table(Path(__file__).parents[2] / "benchmarks" / "results" / "combat_peer.tsv", text=("site",))
    for name, group in theirs.groupby("site"):
        which = learned.sites.index(name)
        np.testing.assert_allclose(learned.shift[which], group["gamma_star"], atol=1e-6)
        np.testing.assert_allclose(learned.scale[which] ** 2, group["delta_star"], rtol=1e-6)


def test_every_view_gets_the_same_map_as_the_mean():
    x, sites, y = draw(60, 3)
    learned = fit_combat(x, sites, y[:, None])
    views = (x[:, None] + np.random.default_rng(0).normal(size=(60, 5, 40))).astype(np.float32)
    clean = learned.apply(views, sites)
    assert clean.dtype == np.float32
    np.testing.assert_allclose(clean.mean(1), learned.apply(views.mean(1), sites), atol=1e-4)


def test_state_round_trip_is_exact():
    x, sites, y = draw(60, 4)
    names = np.where(sites == "A", "Zürich, Süd", sites)
    learned = fit_combat(x, names, y[:, None])
    again = from_state({name: array.copy() for name, array in learned.state().items()})
    assert again.sites == ("B", "C", "Zürich, Süd")
    np.testing.assert_array_equal(again.apply(x, names), learned.apply(x, names))


def test_features_without_spread_are_harmless():
    x, sites, y = draw(60, 6)
    x[:, 5] = 3.0
    clean = fit_combat(x, sites, y[:, None]).apply(x, sites)
    assert np.isfinite(clean).all() and np.allclose(clean[:, 5], 3, atol=1e-6)
    one = fit_combat(x[:, :1], sites, y[:, None])
    assert site_share(one.apply(x[:, :1], sites), sites) < 0.05


def test_what_it_cannot_learn_from_is_refused():
    x, sites, y = draw(60, 7)
    with pytest.raises(ValueError, match="two sites with two training subjects each; site 'A' has 60 of 1 sites"):
        fit_combat(x, ["A"] * 60, y[:, None])
    with pytest.raises(ValueError, match="site 'D' has 1 of 4 sites"):
        fit_combat(x, ["D", *sites[1:]], y[:, None])
    with pytest.raises(ValueError, match="does not name it for all"):
        fit_combat(x, ["", *sites[1:]], y[:, None])
    with pytest.raises(ValueError, match="cannot tell the target from the sites"):
        fit_combat(x, sites, (sites == "A").astype(float)[:, None])
    with pytest.raises(ValueError, match=r"site 'E' was not among the training sites of ComBat \(A, B, C\)"):
        fit_combat(x, sites, y[:, None]).apply(x[:1], ["E"])
