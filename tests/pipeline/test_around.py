"""fit and predict with every head on features, and with what stands around a head, on planted features."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino import catalog
from braindino.cli import main
from braindino.pipeline.around import Asked
from braindino.pipeline.design import design
from braindino.pipeline.fit import fit, read_head, write_head
from braindino.pipeline.predict import predict, read_predictions, write_predictions
from braindino.pipeline.score import score
from braindino.types import Case, Features, Task

KINDS = ("classification", "regression", "survival")
PAIRS = [
    (name, kind)
    for name in catalog.names("heads")
    for kind in KINDS
    if catalog.load("heads", name).Fitted.needs in ("cls", "views") and kind in catalog.load("heads", name).Fitted.kinds
]
SITES = ("A", "B", "C")
METRIC = {"classification": "roc_auc", "regression": "mae", "survival": "concordance_index"}
TARGET = {"classification": ("target",), "regression": ("target",), "survival": ("time", "event")}


def planted(kind, n=90, seed=0, site_effect=0.0):
    """A task and its features: three views of sixteen numbers, of which the first tells the target; two sessions of
    every ninth subject; sites that shift and stretch."""
    rng = np.random.default_rng(seed)
    cases, values, split = [], [], {}
    for number in range(n):
        subject, site = f"s{number:03}", SITES[number % 3]
        split[subject] = ("train", "validation", "test", "train", "validation", "test", "train", "test")[number % 8]
        hidden = rng.normal()
        time, censored = rng.exponential(400 * np.exp(-hidden)), rng.exponential(900)
        participant = {
            "classification": {"target": "AD" if hidden > 0 else "CN"},
            "regression": {"target": 60 + 10 * hidden},
            "survival": {"time": min(time, censored), "event": int(time <= censored)},
        }[kind]
        for session in ("1", "2")[: 1 + (number % 9 == 0)]:
            cases.append(Case(subject, (), session, site, participant))
            x = 0.5 * rng.normal(size=(3, 16))
            x[:, 0] += hidden
            x *= 1 + 0.3 * (number % 3)
            x[:, 0] += site_effect * (number % 3)
            values.append(x)
    classes = ("AD", "CN") * (kind == "classification")
    task = Task(
        "planted", kind, "c", ("T1w",), TARGET[kind], "", METRIC[kind], "made here", tuple(cases), split, classes
    )
    table = pd.DataFrame([(c.name, c.subject, c.session, c.site, "ok") for c in cases])
    table.columns = ["case", "subject", "session", "site", "status"]
    place = np.tile(np.float32([-20, 0, 20]), (len(cases), 1))
    return task, Features(np.array(values, np.float16), place, table, "e", "0" * 8, "r", ("T1w",) * 3)


def failed(features, case, reason="truncated"):
    """The same features, in which one case failed."""
    row = int(np.flatnonzero(features.cases["case"] == case.name)[0])
    values, cases = features.values.copy(), features.cases.copy()
    values[row] = np.nan
    cases.loc[row, "status"] = reason
    return replace(features, values=values, cases=cases)


@pytest.mark.parametrize(("head", "kind"), PAIRS)
def test_every_head_goes_the_whole_way_past_a_failed_case(tmp_path, head, kind):
    task, features = planted(kind)
    for split in ("train", "validation", "test"):
        features = failed(features, task.cases_of(split)[1])
    fitted = fit(task, features, head)
    write_head(fitted, tmp_path / "h")
    table = predict(task, features, read_head(tmp_path / "h")).table
    pd.testing.assert_frame_equal(table, predict(task, features, fitted).table)
    write_predictions(predict(task, features, fitted), tmp_path / "p")
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "p").table, table, check_dtype=False, rtol=1e-6)
    assert (table["status"] == "truncated").sum() == 1 and len(table) == len(task.cases_of("test"))
    assert table.loc[table["status"] == "ok", "out_of_domain"].between(0, 100).all()
    got = score(table, draws=20).metrics.set_index("metric")["value"][METRIC[kind]]
    if head != "prior":
        assert got < 7 if kind == "regression" else got > 0.6


def test_views_are_handed_over_with_place_and_contrast():
    task, features = planted("regression", n=12)
    features = replace(features, contrasts=("T1w", "FLAIR", "T1w"))
    cases = task.cases_of("test")
    views = design(task, features, cases, "views")
    assert views.x.values.shape == (len(cases), 3, 16) and list(views.x.contrast) == [0, 1, 0]
    np.testing.assert_array_equal(views.x.position_mm, np.tile([-20, 0, 20], (len(cases), 1)))
    np.testing.assert_allclose(views.pooled, design(task, features, cases, "cls").x, atol=1e-6)
    assert views.weight.sum() == pytest.approx(len({case.subject for case in cases}))
    with pytest.raises(ValueError, match="'patch' does not learn on cached features"):
        design(task, features, cases, "patch")


@pytest.mark.parametrize("head", ["linear", "attention_pool"])
def test_all_around_a_classifier(tmp_path, head):
    task, features = planted("classification", n=160)
    fitted = fit(task, features, head, asked=Asked("temperature", 0.8, combat=True))
    write_head(fitted, tmp_path / "h")
    read = read_head(tmp_path / "h")
    assert read.asked == Asked("temperature", 0.8, True)
    table = predict(task, features, read).table
    pd.testing.assert_frame_equal(table, predict(task, features, fitted).table)
    assert set(table["set"]) <= {"AD", "CN", "AD|CN"}
    assert np.mean([t in s.split("|") for t, s in zip(table["target"], table["set"], strict=True)]) > 0.7
    np.testing.assert_allclose(table[["output_AD", "output_CN"]].sum(axis=1), 1)
    plain = predict(task, features, replace(fitted, around=replace(fitted.around, calibration=None))).table
    assert not np.allclose(plain["output_AD"], table["output_AD"])
    write_predictions(predict(task, features, read), tmp_path / "p")
    assert list(read_predictions(tmp_path / "p").table["set"]) == list(table["set"])
    assert len(score(table, draws=20).metrics)


def test_intervals_and_domain_of_a_regression():
    task, features = planted("regression", n=400)
    table = predict(task, features, fit(task, features, asked=Asked(coverage=0.9))).table
    held = (table["low"] <= table["target"]) & (table["target"] <= table["high"])
    assert 0.82 < held.mean() < 0.98 and np.ptp(table["high"] - table["low"]) < 1e-9
    assert 30 < table["out_of_domain"].mean() < 70
    strange = replace(features, values=(-features.values[:, ::-1] + 9).astype(np.float16))
    fitted = fit(task, features)
    assert (predict(task, strange, fitted).table["out_of_domain"] == 100).all()
    assert "low" not in predict(task, features, fitted).table


def test_survival_curves_stand_beside_the_risk():
    task, features = planted("survival", n=200)
    fitted = fit(task, features, "discrete_time")
    table = predict(task, features, fitted).table
    names = [name for name in table.columns if name.startswith("survival_")]
    assert len(names) == len(fitted.head.ends) > 3
    assert (np.diff(table[names].to_numpy(), axis=1) <= 0).all()
    assert np.corrcoef(table["output"], table[names[2]])[0, 1] < -0.8
    found = score(table, draws=200).metrics.set_index("metric")
    assert 0.1 < found.loc["integrated_brier", "value"] < 0.25 and found.loc["brier_skill", "value"] > 0


def test_combat_makes_sites_alike_and_learns_from_training_subjects_only():
    task, features = planted("classification", n=240, site_effect=2.0)
    error = {}
    for combat in (False, True):
        table = predict(task, features, fit(task, features, asked=Asked(combat=combat))).table
        error[combat] = np.mean((table["output_AD"] > 0.5) != (table["target"] == "AD"))
    assert error[True] < 0.6 * error[False]
    one = fit(task, features, asked=Asked(combat=True)).around.combat
    others = np.array([task.split[s] != "train" for s in features.cases["subject"]])
    values = features.values.copy()
    values[others] *= 3
    two = fit(task, replace(features, values=values), asked=Asked(combat=True)).around.combat
    assert one.sites == SITES and np.array_equal(one.shift, two.shift) and np.array_equal(one.scale, two.scale)


def elsewhere(task, features, splits, site):
    """The subjects of some splits moved to another site."""
    cases = tuple(replace(c, site=site) if task.split[c.subject] in splits else c for c in task.cases)
    return replace(task, cases=cases), features


def test_cases_of_an_unseen_site_get_a_reason_instead_of_an_answer(capsys):
    task, features = planted("classification", n=120)
    fitted = fit(task, features, asked=Asked(combat=True))
    chosen = task.cases_of("test")[:2]
    moved = replace(task, cases=tuple(replace(c, site="X") if c in chosen else c for c in task.cases))
    table = predict(moved, features, fitted).table.set_index("case")
    for case in chosen:
        assert table.loc[case.name, "status"] == "site 'X' was not among the training sites of ComBat (A, B, C)"
    assert (table["status"] == "ok").sum() == len(table) - 2
    with pytest.raises(ValueError, match="site 'X' was not among"):
        predict(elsewhere(task, features, ("test",), "X")[0], features, fitted)
    with pytest.raises(ValueError, match="no validation case comes from a site that ComBat knows"):
        fit(elsewhere(task, features, ("validation",), "X")[0], features, asked=Asked(combat=True))
    left = task.cases_of("validation")[0]
    fit(replace(task, cases=tuple(replace(c, site="X") if c == left else c for c in task.cases)), features,
        asked=Asked(combat=True))  # fmt: skip
    assert f"left out: 1 ({left.name})" in capsys.readouterr().err


def test_what_has_no_meaning_is_refused():
    regression, features = planted("regression")
    survival, at_risk = planted("survival")
    with pytest.raises(ValueError, match="calibration is for class probabilities"):
        fit(regression, features, asked=Asked("isotonic"))
    with pytest.raises(ValueError, match="coverage is for classification and regression, but planted is survival"):
        fit(survival, at_risk, "cox", asked=Asked(coverage=0.9))
    with pytest.raises(ValueError, match="expected 0"):
        fit(regression, features, asked=Asked(coverage=90))
    with pytest.raises(ValueError, match="needs 99 validation subjects"):
        fit(regression, features, asked=Asked(coverage=0.99))
    with pytest.raises(ValueError, match="learned on T1w, FLAIR, but task planted takes T1w here; fit it again"):
        predict(regression, features, replace(fit(regression, features), contrasts=("T1w", "FLAIR")))
    with pytest.raises(ValueError, match="dense head does not use them"):
        Asked(combat=True).check(replace(regression, kind="segmentation"))


def test_from_the_command_line(tmp_path, cohort, weights, capsys):
    task = f"--task brain_age --root {cohort} --cohort synthetic --features {tmp_path}/f"
    main(f"encode synthetic={cohort} --weights {weights} --contrasts T1w --out {tmp_path}/f".split())
    main(f"fit {task} --head linear --coverage 0.5 --out {tmp_path}/h".split())
    main(f"predict {task} --head {tmp_path}/h --out {tmp_path}/p".split())
    table = read_predictions(tmp_path / "p").table
    assert (table["low"] < table["output"]).all() and table["out_of_domain"].between(0, 100).all()
    with pytest.raises(SystemExit):
        main(f"fit {task} --calibrate temperature --out {tmp_path}/other".split())
    assert "calibration is for class probabilities, but brain_age is regression" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
