"""Survival curves in `score`."""

import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.score import score
from braindino.stats.censoring import Curves, integrated_brier
from scored import N, rows, value


def with_curves(ends, seed=0, encoder="a"):
    """A model whose curves are exponential in its risk, told at the times `ends`."""
    table = rows("survival", encoder, seed=seed, head="discrete_time")
    return table.assign(**{f"survival_{end:.9g}": np.exp(-end / 100 * np.exp(table.output)) for end in ends})


def brier_by_hand(table, ends):
    curves = Curves(np.array(ends), table[[f"survival_{end:.9g}" for end in ends]].to_numpy(float))
    return integrated_brier(table[["time", "event"]].to_numpy(float), curves, np.ones((1, N)))[0]


def test_survival_curves_are_scored_and_models_without_have_no_row():
    ends = (20.0, 60.125, 110.0)
    a = with_curves(ends)
    scores = score([a, rows("survival", "b", head="cox")], draws=300)
    row = value(scores, "integrated_brier")
    assert row.value == pytest.approx(brier_by_hand(a, ends)) and row.low < row.value < row.high
    assert row.interval == "bca" and row.subjects == N
    assert value(scores, "brier_skill").value < 1
    told = scores.metrics.groupby("encoder")["metric"].agg(set)
    assert told["a"] - told["b"] == {"integrated_brier", "brier_skill"}


def test_every_seed_is_scored_at_its_own_times_and_averaged():
    times = {0: (20.0, 60.0, 110.0), 1: (25.0, 80.0)}
    tables = {seed: with_curves(ends, seed) for seed, ends in times.items()}
    sweep = pd.concat(tables.values(), ignore_index=True)  # one table, as a sweep writes it: mostly empty columns
    assert sweep[["survival_20", "survival_80"]].isna().any().all()
    row = value(score(sweep, draws=100), "integrated_brier")
    each = [brier_by_hand(tables[seed], times[seed]) for seed in times]
    assert row.value == pytest.approx(np.mean(each))
    assert (row.seed_min, row.seed_max) == (pytest.approx(min(each)), pytest.approx(max(each)))


def test_moments_that_few_outlive_are_not_scored_and_one_moment_is_none():
    time = np.sort(rows("survival", "a").time)
    early, late = (20.0, 60.0), round(float(time[-5]), 1) + 0.1  # four are later
    row = value(score(with_curves((*early, late)), draws=50), "integrated_brier")
    assert row.value == pytest.approx(brier_by_hand(with_curves(early), early))
    inside = (*early, round(float(time[-6]), 1) + 0.1)
    row = value(score(with_curves(inside), draws=500), "integrated_brier")
    assert row.value == pytest.approx(brier_by_hand(with_curves(inside), inside)) and np.isfinite(row.low)
    assert np.isnan(value(score(with_curves((20.0, late)), draws=50), "integrated_brier").value)


def test_curves_of_failed_cases_are_not_missed_but_gaps_and_wrong_ones_are_refused():
    table = with_curves((20.0, 60.0))
    failed = table.copy()
    failed.loc[:2, ["status", "output", "survival_20", "survival_60"]] = ("damaged", np.nan, np.nan, np.nan)
    row = value(score(failed, draws=50), "integrated_brier")
    assert (row.subjects, row.failed) == (N - 3, 3) and np.isfinite(row.value)
    for wrong in (np.nan, 1.5, -0.1):
        broken = table.copy()
        broken.loc[4, "survival_60"] = wrong
        with pytest.raises(ValueError, match="'sub-004_0' of a/discrete_time has status ok, but a survival prob"):
            score(broken, draws=50)
    with pytest.raises(ValueError, match="names the metric 'integrated_brier'"):
        score(table.assign(metric="integrated_brier"), draws=50)
