"""Honest sentences: better, worse, not shown, not corrected away in silence."""

from pathlib import Path

import pandas as pd
import pytest

from braindino.reporting.artefacts import answers_of
from braindino.reporting.verdicts import conclude, contests, headline_metrics, in_short, same_for_everybody, verdict

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "expected"),
    [
        (0.1, 0.3, True, "better"),
        (-0.3, -0.1, True, "worse"),
        (-0.3, -0.1, False, "better"),
        (0.1, 0.3, False, "worse"),
        (-0.1, 0.3, True, "no difference shown"),
        (0.0, 0.3, True, "no difference shown"),
        (-0.3, 0.0, False, "no difference shown"),
        (NAN, NAN, True, "no difference shown"),
    ],
)
def test_conclusion(low, high, higher_is_better, expected):
    assert conclude(low, high, higher_is_better) == expected


def metrics(metric="mae"):
    rows = [("age", e, h, metric, 6.0, 5.0, 7.0, 20) for e, h in (("braindino", "linear"), ("random_init", "linear"))]
    return pd.DataFrame(rows, columns=["task", "encoder", "head", "metric", "value", "low", "high", "subjects"])


def compared(*rows, metric="mae"):
    columns = ["task", "metric", "a", "b", "difference", "low", "high", "p_holm", "fraction", "subjects"]
    return pd.DataFrame([("age", metric, *row, 1.0, 20) for row in rows], columns=columns)


def said(*rows, metric="mae"):
    return verdict("age", metric, metrics(metric), contests(compared(*rows, metric=metric)), unit="years")


def test_lower_error_is_better():
    text = said(("braindino/linear", "random_init/linear", -2.0, -3.0, -1.0, 0.01))
    assert "It is better than the same network with random weights by 2 (difference −2" in text
    assert "It was not compared with the trivial answer (prior)." in text
    assert text.startswith(
        "Age: braindino with the linear head reaches MAE 6 [5,\N{NO-BREAK SPACE}7] years on 20 test subjects."
    )


def test_the_other_order_turns_the_difference():
    text = said(("random_init/linear", "braindino/linear", -2.0, -3.0, -1.0, 0.01))
    assert "It is worse than the same network with random weights by 2 (difference 2 [1," in text


def test_higher_auc_is_better_and_lower_worse():
    better = said(("braindino/linear", "braindino/prior", 0.2, 0.1, 0.3, 0.02), metric="roc_auc")
    assert "It is better than the trivial answer (prior) by 0.2" in better
    worse = said(("braindino/linear", "braindino/prior", -0.2, -0.3, -0.1, 0.02), metric="roc_auc")
    assert "It is worse than the trivial answer (prior) by 0.2" in worse


def test_an_interval_with_zero_shows_no_difference():
    text = said(("braindino/linear", "random_init/linear", -2.0, -4.5, 0.5, 0.2))
    assert "No difference from the same network with random weights is shown (difference −2" in text
    assert "It is better" not in text and "It is worse" not in text


@pytest.mark.parametrize("p", [0.05, 0.4, NAN])
def test_a_difference_that_correction_takes_away_is_not_claimed(p):
    text = said(("braindino/linear", "random_init/linear", -2.0, -3.0, -1.0, p))
    assert "Taken alone it is better" in text and "does not hold after correction" in text
    assert "It is better" not in text


def test_random_weights_and_prior_get_no_verdict_of_their_own():
    assert verdict("age", "mae", metrics()[1:], []) == "Age: no encoder was scored beside the baselines."
    assert verdict("age", "mae", metrics(), []).count("reaches") == 1
    assert contests(compared(("random_init/linear", "braindino/prior", -2.0, -3.0, -1.0, 0.01))) == []


def test_in_short_counts_what_holds_and_says_plainly_when_nothing_does():
    random, prior = "random_init/linear", "braindino/prior"
    none = contests(
        compared(("braindino/linear", random, -2.0, -3.0, -1.0, 0.2), ("braindino/linear", prior, 1, -1, 2, 1))
    )
    text = in_short(none)
    assert "compared 2 times" in text and "0 comparisons show them better, 0 worse, and 2 show no difference" in text
    assert "(1 of these would have shown one if taken alone)" in text
    assert text.endswith("No encoder beat the baselines on any of these tasks.")
    some = contests(
        compared((prior, "braindino/linear", 2.0, 1.0, 3.0, 0.01), (random, "braindino/linear", -2, -3, -1, 0))
    )
    text = in_short(some)
    assert "Better: braindino on Age against prior at 100%." in text
    assert "Worse: braindino on Age against random init at 100%." in text
    assert "No encoder beat" not in text and in_short([]) == ""


@pytest.mark.parametrize(
    ("a", "b", "baseline"),
    [
        ("braindino+concat/linear", "random_init+concat/linear", "random_init"),
        ("braindino@brain+concat/linear", "random_init+concat/linear", "random_init"),
        ("braindino@brain/linear", "random_init@brain/linear", "random_init"),
        ("braindino+concat/linear", "random_init/linear", ""),
        ("braindino/linear", "random_init@brain/linear", ""),
        ("braindino/linear+combat", "random_init/linear", ""),
        ("braindino/linear+combat", "braindino/prior+combat", "prior"),
        ("braindino/linear", "clinical+concat/mlp", "clinical"),
        ("random_init+concat/linear", "braindino/prior", ""),
    ],
)
def test_a_baseline_is_known_by_its_plug_in_and_done_alike(a, b, baseline):
    assert [one.baseline for one in contests(compared((a, b, 1.0, 0.5, 1.5, 0.01)))] == [baseline] * bool(baseline)


def answers(kind, head="linear", **columns):
    base = {"task": "age", "kind": kind, "encoder": "e", "head": head, "fraction": 1.0, "seed": 0, "status": "ok"}
    base |= {"perturbation": "none", "severity": 0, "split": "test"}
    return answers_of(Path("p"), pd.DataFrame(base | columns))[0]


def test_a_head_that_answers_the_mean_is_named():
    target = [20.0, 40.0, 60.0]
    flat = same_for_everybody(answers("regression", target=target, output=[40.0, 40.1, 40.2]), "years")
    assert "Age: e, linear at 100% gives all test subjects nearly the same value" in flat and "0.0816 years" in flat
    assert same_for_everybody(answers("regression", target=target, output=[39.0, 40.0, 42.0])) == ""
    assert same_for_everybody(answers("regression", "prior", target=target, output=[1.0, 1.0, 1.0])) == ""
    probabilities = {"output_a": [0.5, 0.501, 0.5], "output_b": [0.5, 0.499, 0.5]}
    assert "same probabilities" in same_for_everybody(
        answers("classification", target=["a", "b", "a"], **probabilities)
    )
    wide = {"output_a": [0.5, 0.6, 0.5], "output_b": [0.5, 0.4, 0.5]}
    assert same_for_everybody(answers("classification", target=["a", "b", "a"], **wide)) == ""


def test_headline_is_the_predictions_metric_then_the_comparisons_then_the_first():
    scored = pd.DataFrame({"task": ["a", "a", "b", "b", "c", "c"], "metric": ["x", "y"] * 3})
    pairs = pd.DataFrame({"task": ["a", "b"], "metric": ["y", "y"]})
    table = pd.DataFrame({"task": ["a"], "metric": ["z"]})
    assert headline_metrics(scored, pairs, [table]) == {"a": "z", "b": "y", "c": "x"}
