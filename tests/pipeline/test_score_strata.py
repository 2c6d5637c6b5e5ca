"""Pairs of models within strata, with a difference planted."""

import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.score import score
from braindino.stats.comparisons import benjamini_hochberg, delong, holm
from scored import rows


def planted(n=120, **told):
    """Encoder a is better than b in the young alone; every band has n / 2 subjects, half of them women."""
    case, noise = np.arange(n), np.random.default_rng(5).normal(size=(2, n))
    young = case % 2 == 0
    about = {"age": np.where(young, 30.0, 70.0), "sex": np.where(case // 2 % 2, "F", "M")} | told
    errors = {"a": np.where(young, 2.0, 8.0) * noise[0], "b": 8.0 * noise[1]}
    return [rows("regression", name, n=n).assign(**about, output=lambda t, e=e: t.target + e)
            for name, e in errors.items()]  # fmt: skip


def test_an_encoder_that_is_better_in_the_young_only_is_found_there_and_not_in_the_old():
    a, b = planted()
    pairs = score([a, b]).stratum_comparisons.set_index(["variable", "level", "minus"])
    assert list(pairs.index) == [
        *(("sex", "F", ""), ("sex", "M", "")),
        *(("age", "20-39", ""), ("age", "60-79", ""), ("age", "60-79", "20-39")),
    ]
    young, old, between = (pairs.loc[key] for key in (("age", "20-39", ""), ("age", "60-79", ""),
                                                      ("age", "60-79", "20-39")))  # fmt: skip
    gap = (a.output - a.target).abs() - (b.output - b.target).abs()
    assert young.difference == pytest.approx(gap[::2].mean()) and old.difference == pytest.approx(gap[1::2].mean())
    assert (young.subjects, old.subjects, between.subjects) == (60, 60, 120)
    assert young.high < 0 and young.p_holm < 0.01 and old.low < 0 < old.high and old.p_holm > 0.05
    assert between.difference == pytest.approx(old.difference - young.difference) and between.p < 0.01
    assert between.low < between.difference < between.high and between.low > 0
    normal = np.sqrt(gap[::2].var() / 60 + gap[1::2].var() / 60) * 1.96
    assert (between.high - between.low) / 2 == pytest.approx(normal, rel=0.1)


def test_pairs_within_strata_are_a_family_of_their_variable_and_no_part_of_the_others():
    tables = planted()
    tables += [tables[0].assign(encoder="c", output=tables[0].output + np.linspace(-4, 4, 120))]
    scores = score(tables, draws=500)
    pairs, whole = scores.stratum_comparisons, score([t.drop(columns=["age", "sex"]) for t in tables], draws=500)
    pd.testing.assert_frame_equal(scores.comparisons, whole.comparisons)
    assert len(pairs) == 3 * (2 + 2 + 1) and len(scores.comparisons) == 3
    for family in (pairs[pairs.variable == "sex"], pairs[(pairs.variable == "age") & (pairs.minus == "")],
                   pairs[pairs.minus != ""]):  # fmt: skip
        np.testing.assert_allclose(family.p_holm, holm(family.p.to_numpy()))
    inside = pairs[pairs.minus == ""]
    np.testing.assert_allclose(inside.p_bh, benjamini_hochberg(inside.p.to_numpy()))


def test_only_the_largest_fraction_clean_answers_and_large_levels_are_compared_within_strata():
    small = np.where(np.arange(120) % 2 == 0, 30.0, np.where(np.arange(120) < 40, 70.0, 10.0))
    tables = planted(age=np.where(np.arange(120) == 39, 10.0, small))  # 19 are 70 years old
    tables += [table.assign(fraction=0.5) for table in tables]
    tables += [table.assign(perturbation="gibbs", severity=3) for table in tables]
    pairs = score(tables, draws=100).stratum_comparisons
    assert set(pairs.fraction) == {1.0} and set(pairs.perturbation) == {"none"}
    by_age = pairs[pairs.variable == "age"]
    assert list(zip(by_age.level, by_age.minus, strict=True)) == [("0-19", ""), ("20-39", ""), ("20-39", "0-19")]
    failed = planted()
    failed[0].loc[1:85:2, ["status", "output"]] = "damaged", np.nan  # of 60 of the old 17 are left
    levels = score(failed, draws=100).stratum_comparisons.query("variable == 'age'")
    assert list(levels.level) == ["20-39"]


def test_two_classes_within_a_stratum_are_compared_by_delong():
    young = np.arange(80) % 2 == 0
    tables = [rows("classification", name, gain=g, n=80).assign(age=np.where(young, 30, 70))
              for name, g in (("a", 2), ("b", 0.3))]  # fmt: skip
    pairs = score(tables, draws=300).stratum_comparisons
    assert list(pairs.test) == ["delong", "delong", "bootstrap"]
    target = (tables[0].target == "CN").to_numpy()[young]
    expected = delong(target, *(table.output_CN.to_numpy()[young] for table in tables))
    assert pairs.p[0] == pytest.approx(expected.p) and pairs.difference[0] == pytest.approx(expected.value)
