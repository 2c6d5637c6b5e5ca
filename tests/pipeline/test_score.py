import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.predict import write_predictions
from braindino.pipeline.score import read_scores, score, write_scores
from braindino.record import write_record
from braindino.stats.comparisons import benjamini_hochberg, delong, holm, mcnemar
from braindino.stats.metrics import METRICS
from braindino.stats.survival import log_rank
from braindino.types import Predictions
from braindino.verbs.answers import Score
from scored import N, rows, value


def test_classification_row_and_pair():
    a, b = rows("classification", "a", gain=2), rows("classification", "b", gain=0.3)
    scores = score([a, b])
    row = value(scores, "accuracy")
    assert row.value == pytest.approx(((a.output_CN > 0.5) == (a.target == "CN")).mean())
    assert row.low <= row.value <= row.high and row.subjects == N and row.failed == 0
    assert set(scores.metrics["metric"]) == {name for name, known in METRICS.items() if known.kind == "classification"}
    (pair,) = scores.comparisons.itertuples()
    expected = delong((a.target == "CN").to_numpy(), a.output_CN.to_numpy(), b.output_CN.to_numpy())
    assert (pair.a, pair.b, pair.metric, pair.test) == ("a/linear", "b/linear", "roc_auc", "delong")
    assert pair.p == pair.p_holm == pytest.approx(expected.p) and pair.difference == pytest.approx(expected.value)
    assert pair.low <= pair.difference <= pair.high


def test_accuracy_is_compared_by_mcnemar():
    a, b = (rows("classification", name, gain=g, metric="accuracy") for name, g in (("a", 2), ("b", 0.3)))
    right = [((t.output_CN > 0.5) == (t.target == "CN")).to_numpy() for t in (a, b)]
    (pair,) = score([a, b]).comparisons.itertuples()
    assert pair.test == "mcnemar" and pair.p == pytest.approx(mcnemar(*right))


def test_regression_survival_segmentation_in_one_call():
    tables = [rows(kind, name, gain=g) for kind in ("regression", "survival", "segmentation")
              for name, g in (("a", 1.0), ("b", 0.2))]  # fmt: skip
    scores = score(tables, draws=500)
    a = tables[0]
    assert value(scores, "mae").value == pytest.approx((a.output - a.target).abs().mean())
    assert value(scores, "concordance_index").value > value(scores, "concordance_index", "b").value
    dice = tables[4]
    assert value(scores, "whole_dice").value == pytest.approx(dice.output_whole_dice.mean())
    assert value(scores, "dice").value == pytest.approx(0.75 * dice.output_whole_dice.mean())
    assert value(scores, "core_hd95_mm").value == 12
    tests = dict(zip(scores.comparisons["metric"], scores.comparisons["test"], strict=True))
    assert tests == {"mae": "bootstrap", "concordance_index": "bootstrap", "dice": "wilcoxon"}
    p = scores.comparisons["p"].to_numpy()
    np.testing.assert_allclose(scores.comparisons["p_holm"], p)  # one comparison for each task
    np.testing.assert_allclose(scores.comparisons["p_bh"], benjamini_hochberg(p))
    assert "mae" in str(scores)


def test_seeds_are_averaged_and_their_spread_stands_apart():
    several = [rows("regression", "a", seed=seed) for seed in range(3)]
    row = value(score(several), "mae")
    each = [(table.output - table.target).abs().mean() for table in several]
    assert row.seed == "0,1,2" and row.value == pytest.approx(np.mean(each))
    assert row.seed_sd == pytest.approx(np.std(each, ddof=1)) and row.low < row.value < row.high
    assert (row.seed_min, row.seed_max) == (pytest.approx(min(each)), pytest.approx(max(each)))
    assert row.subjects == N, "seeds are not subjects"
    copies = [several[0].assign(seed=seed) for seed in range(5)]
    one, many = value(score(several[:1]), "mae"), value(score(copies), "mae")
    assert (many.low, many.high) == (pytest.approx(one.low), pytest.approx(one.high)) and many.seed_sd == 0
    assert np.isnan(value(score(several[:1]), "mae").seed_sd)


def test_families_are_drawn_together():
    table = rows("regression", "a", n=120)
    table["output"] = table["target"] + np.repeat(np.random.default_rng(1).normal(size=30), 4)
    related = table.assign(family=[f"f{i // 4}" for i in range(120)])
    width = [row.high - row.low for row in (value(score(t), "mae") for t in (related, table))]
    assert width[0] > 1.5 * width[1]
    assert value(score(related), "mae").subjects == 120
    pair = [rows("classification", name, gain=g, n=120) for name, g in (("a", 2), ("b", 0.3))]
    assert score(pair).comparisons["test"].item() == "delong"
    related = [t.assign(family=[f"f{i // 4}" for i in range(120)]) for t in pair]
    assert score(related, draws=200).comparisons["test"].item() == "bootstrap", "relatives are not independent"


def test_strata_are_scored_on_their_own_subjects():
    table = rows("regression", "a").assign(sex=["F", "M", "M"] * 20, age=np.linspace(15, 60, N), site="A")
    table.loc[:1, "status"], table.loc[:1, "output"] = "damaged", np.nan
    found = score(table, draws=300).strata.set_index(["variable", "level"])
    assert list(found.index) == [("sex", "F"), ("sex", "M"), *(("age", b) for b in ("0-19", "20-39", "40-59", "60-79"))]
    woman = found.loc[("sex", "F")]
    own = table[(table.sex == "F") & (table.status == "ok")]
    assert woman["value"] == pytest.approx((own.output - own.target).abs().mean())
    assert (woman.subjects, woman.failed, woman.smallest, woman.metric) == (19, 1, 19, "mae")
    assert woman.low < woman["value"] < woman.high
    assert found.loc[("sex", "M")].subjects == 39 and found.loc[("age", "0-19")].smallest == 1
    assert np.isnan(found.loc[("age", "60-79")].low), "one subject has no interval"
    assert score(rows("regression", "a"), draws=50).strata.empty


def test_risk_groups():
    table = rows("survival", "a", head="cox")
    groups = score(table, draws=50).risk_groups
    high, low = (groups[groups["group"] == name].iloc[0] for name in ("high", "low"))
    expected = log_rank(table.time.to_numpy(), table.event.to_numpy() == 1, table.output.to_numpy(), 0.0)
    assert high.p == low.p == high.p_holm == low.p_holm == pytest.approx(expected.p)
    assert high.threshold == 0 and (high.subjects, low.subjects) == (expected.high_subjects, expected.low_subjects)
    assert high["median"] < low["median"] and high.median_low <= high["median"] <= high.median_high
    assert high.events + low.events == table.event.sum()
    assert score(rows("survival", "a"), draws=50).risk_groups.empty, "no threshold, no groups"
    cut = score(rows("survival", "a").assign(threshold=0.5), draws=50).risk_groups
    assert set(cut.threshold) == {0.5} and cut.subjects.iloc[0] == (table.output >= 0).size - cut.subjects.iloc[1]


def test_log_rank_tests_are_corrected_among_themselves():
    everybody_high = rows("survival", "c", head="cox").assign(output=1.0)
    tables = [*(rows("survival", name, head="cox", seed=s) for name in "ab" for s in (0, 1)), everybody_high]
    groups = score(tables, draws=50).risk_groups
    once = groups[groups["group"] == "high"]
    assert len(groups) == 10 and len(once) == 5 and np.isnan(once.p.iloc[4]) and np.isnan(groups.p_holm.iloc[9])
    np.testing.assert_allclose(once.p_holm, holm(once.p.to_numpy()))
    np.testing.assert_array_equal(once.p_holm, groups[groups["group"] == "low"].p_holm)


def test_a_column_of_no_metric_is_refused():
    with pytest.raises(ValueError, match="'whole_volume' ends in no segmentation metric"):
        score(rows("segmentation", "a").assign(output_whole_volume=1.0), draws=50)


def test_regions_keep_their_metric():
    table = rows("segmentation", "a").assign(output_whole_surface_dice=0.25, output_whole_lesionwise_dice=0.5)
    scores = score(table, draws=100)
    assert value(scores, "surface_dice").value == 0.25 and value(scores, "lesionwise_dice").value == 0.5
    both = (table.output_whole_dice + table.output_core_dice) / 2
    assert value(scores, "dice").value == pytest.approx(both.mean())


def test_every_model_meets_the_prior_once():
    tables = [rows("regression", name, gain=0.9) for name in "abc"]
    tables += [rows("regression", name, head="prior").assign(output=60.0) for name in "ab"]
    pairs = score(tables, draws=300).comparisons
    assert sorted(zip(pairs["a"], pairs["b"], strict=True)) == [
        *(("a/linear", other) for other in ("a/prior", "b/linear", "c/linear")),
        *(("b/linear", other) for other in ("a/prior", "c/linear")),
        ("c/linear", "a/prior"),
    ]


def test_fractions_and_perturbations_are_kept_apart():
    tables = [rows("regression", name, fraction=f) for name in "ab" for f in (0.1, 1.0)]
    tables += [rows("regression", name, perturbation="gibbs", severity=3) for name in "ab"]
    scores = score(tables, draws=300)
    assert len(scores.comparisons) == 3
    clean, gibbs = (scores.comparisons.query("perturbation == @name") for name in ("none", "gibbs"))
    np.testing.assert_array_equal(clean["p_holm"], clean["p"])  # each fraction is a family of its own
    np.testing.assert_allclose(clean["p_bh"], benjamini_hochberg(clean["p"].to_numpy()))
    assert gibbs["p_holm"].item() == gibbs["p"].item()


def test_age_and_sex_alone_meet_models_of_any_head_in_the_same_family():
    heads = (("a", "linear"), ("a", "mlp"), ("b", "mlp"), ("clinical", "linear"))
    pairs = score([rows("regression", name, head=head) for name, head in heads], draws=300).comparisons
    assert sorted(zip(pairs["a"], pairs["b"], strict=True)) == [
        ("a/linear", "clinical/linear"),
        *(("a/mlp", other) for other in ("b/mlp", "clinical/linear")),
        ("b/mlp", "clinical/linear"),
    ]
    np.testing.assert_allclose(pairs["p_holm"], holm(pairs["p"].to_numpy()))


def test_failed_cases_are_counted_and_left_out_of_pairs():
    a, b = rows("regression", "a"), rows("regression", "b")
    a.loc[:4, "status"], a.loc[:4, "output"] = "damaged", np.nan
    scores = score([a, b], draws=300)
    row = value(scores, "mae")
    assert (row.failed, row.subjects) == (5, N - 5)
    assert row.value == pytest.approx((a.output - a.target).abs()[5:].mean())
    (pair,) = scores.comparisons.itertuples()
    assert pair.subjects == N - 5
    expected = (a.output - a.target).abs()[5:].mean() - (b.output - b.target).abs()[5:].mean()
    assert pair.difference == pytest.approx(expected)


def test_several_cases_of_a_subject_widen_the_interval():
    table = rows("regression", "a", n=120, per_subject=4)
    table["output"] = table["target"] + np.repeat(np.random.default_rng(1).normal(size=30), 4)
    apart = table.assign(subject=table["case"])
    width = [row.high - row.low for row in (value(score(t), "mae") for t in (table, apart))]
    assert width[0] > 1.5 * width[1]
    assert value(score(table), "mae").subjects == 30


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a, b: [a, pd.concat([b, b.iloc[[3]]])], "'sub-003_0' .* appears twice for b/linear"),
        (lambda a, b: [a, b.drop(index=7)], "'sub-007_0' .* is missing for b/linear"),
        (lambda a, b: [a, b.assign(perturbation="gibbs").drop(index=7)], "'sub-007_0' .* is missing"),
        (lambda a, b: [a.drop(columns="subject"), b.drop(columns="subject")], "lacks the column 'subject'"),
        (lambda a, b: [a, b.assign(subject="")], "no subject id"),
        (lambda a, b: [a, b.assign(target=b.target + (b.index == 2))], "'sub-002_0' .* different"),
        (lambda a, b: [a, b.assign(output=b.output.where(b.index != 2))], "'sub-002_0' .* not finite"),
        (lambda a, b: [a.assign(metric="dice"), b.assign(metric="dice")], "names the metric 'dice'"),
        (lambda a, b: [], "no predictions"),
    ],
)
def test_refusals(break_it, message):
    with pytest.raises(ValueError, match=message):
        score(break_it(rows("regression", "a"), rows("regression", "b")), draws=50)


def test_written_scores_read_back(tmp_path):
    tables = [rows("classification", name).assign(sex=["F", "M"] * 30) for name in "ab"]
    scores = score([*tables, rows("survival", "a", head="cox").assign(sex="F")], draws=200, seed=4)
    write_scores(scores, tmp_path / "scores", {"a": "0" * 64})
    again = read_scores(tmp_path / "scores")
    pd.testing.assert_frame_equal(again.metrics, scores.metrics, check_dtype=False, rtol=1e-8)
    pd.testing.assert_frame_equal(again.comparisons, scores.comparisons, check_dtype=False, rtol=1e-8)
    pd.testing.assert_frame_equal(again.strata, scores.strata, check_dtype=False, rtol=1e-8)
    pd.testing.assert_frame_equal(again.risk_groups, scores.risk_groups, check_dtype=False, rtol=1e-8)
    within = again.stratum_comparisons
    pd.testing.assert_frame_equal(within, scores.stratum_comparisons, check_dtype=False, rtol=1e-8)
    assert len(again.strata) == 4 and len(again.risk_groups) == 2 and len(within) == 2 and set(within.minus) == {""}
    assert (again.draws, again.seed) == (200, 4)
    (tmp_path / "scores" / "metrics.tsv").write_text("changed")
    with pytest.raises(ValueError, match="differs from its record"):
        read_scores(tmp_path / "scores")


def test_scores_of_a_version_with_fewer_tables_are_refused(tmp_path):
    write_scores(score(rows("regression", "a"), draws=50), tmp_path)
    (tmp_path / "stratum_comparisons.tsv").unlink()
    write_record(tmp_path, "score", {"draws": 50, "seed": 0})
    with pytest.raises(
        ValueError, match=r"no stratum_comparisons\.tsv: an earlier version made it; delete it and score"
    ):
        read_scores(tmp_path)


def test_the_printed_table_tells_perturbed_rows_from_clean_ones(tmp_path, capsys):
    for severity in (0, 3):
        told = {"perturbation": "gibbs" if severity else "none", "severity": severity, "protocol": "three_way"}
        write_predictions(Predictions(rows("regression", "ours", **told)), tmp_path / f"p{severity}")
    Score((tmp_path / "p0", tmp_path / "p3"), tmp_path / "both", draws=50).run()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][4:6] == ["perturbation", "severity"] and "protocol" not in lines[0]
    assert {tuple(line[4:7]) for line in lines[1:]} >= {("none", "0", "mae"), ("gibbs", "3", "mae")}
    Score((tmp_path / "p0",), tmp_path / "one", draws=50).run()
    assert "perturbation" not in capsys.readouterr().out
