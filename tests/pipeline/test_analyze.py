from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.corpus.audit import LeakageError, name_digest
from braindino.pipeline.analyze import analyze, analyze_folders, read_analysis, write_analysis
from braindino.pipeline.encode import write_features
from braindino.pipeline.fit import load_task
from braindino.types import Features

N = 60
LABELS = pd.Series({f"c{i:02d}": "AD" if i % 2 else "CN" for i in range(N)})
TRAIN = {f"s{i:02d}" for i in range(40)}


def features(name, *, signal=3.0, site_shift=0.0, seed=0, failed=()):
    rng = np.random.default_rng(seed)
    sites = np.array(["A", "B", "C"])[np.arange(N) % 3]
    values = rng.normal(size=(N, 4, 16))
    values[:, :, 0] += signal * np.where(np.arange(N) % 2, 1, -1)[:, None]
    values[np.arange(N), :, 1 + np.arange(N) % 3] += site_shift
    status = ["damaged" if i in failed else "ok" for i in range(N)]
    values[list(failed)] = np.nan
    cases = pd.DataFrame(
        {"case": LABELS.index, "subject": [f"s{i:02d}" for i in range(N)], "session": "", "site": sites}
    ).assign(status=status)
    position = np.zeros((N, 4), np.float32)
    return Features(values.astype(np.float16), position, cases, name, "0" * 64, "r", ("T1w",) * 4)


def test_neighbours_find_what_is_there():
    analysis = analyze({"good": features("good"), "blind": features("blind", signal=0)}, LABELS, TRAIN)
    good, blind = (analysis.knn.query("encoder == @name") for name in ("good", "blind"))
    assert good["k"].tolist() == [1, 3, 5, 10, 20]
    assert (good["accuracy"] > 0.9).all() and (blind["accuracy"].between(0.2, 0.8)).all()
    assert (good["train_subjects"] == 40).all() and (good["test_subjects"] == 20).all()
    assert (good["low"] <= good["accuracy"]).all() and (good["accuracy"] <= good["high"]).all()


def test_similarity_rank_and_site():
    sets = {
        "a": features("a"),
        "same": features("same"),
        "other": features("other", signal=0, seed=1),
        "sites": features("sites", signal=0, site_shift=3.0, seed=2),
    }
    analysis = analyze(sets, None, ())
    assert analysis.knn.empty
    cka = analysis.cka.set_index(["a", "b"])["cka"]
    assert len(cka) == 6 and cka["a", "same"] == pytest.approx(1) and cka["a", "other"] < 0.5
    encoders = analysis.encoders.set_index("encoder")
    assert encoders["effective_rank"]["a"] < encoders["effective_rank"]["other"] <= 16
    assert (encoders["site_chance"] == 1 / 3).all() and (encoders["sites"] == 3).all()
    assert encoders["site_accuracy"]["sites"] > 0.9 and encoders["site_accuracy"]["other"] < 0.55


def test_failed_cases_are_left_out():
    analysis = analyze({"a": features("a", failed=(0, 50)), "b": features("b", seed=1)}, LABELS, TRAIN)
    assert analysis.encoders.set_index("encoder")["failed"].tolist() == [2, 0]
    assert analysis.cka["cases"].item() == 58
    assert analysis.knn.query("encoder == 'a'")["train_subjects"].unique().tolist() == [39]


def test_refusals():
    with pytest.raises(ValueError, match="no features"):
        analyze({}, LABELS, TRAIN)
    with pytest.raises(ValueError, match="to remember"):
        analyze({"a": features("a")}, LABELS, set())
    with pytest.raises(ValueError, match="none of the 60 cases"):
        analyze({"a": features("a", failed=range(N))}, LABELS, TRAIN)


def test_written_analysis_reads_back(tmp_path):
    analysis = analyze({"a": features("a"), "b": features("b", seed=1)}, LABELS, TRAIN)
    write_analysis(analysis, tmp_path / "analysis", {})
    again = read_analysis(tmp_path / "analysis")
    for name in ("knn", "cka", "encoders"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(analysis, name), check_dtype=False, rtol=1e-8)
    assert "accuracy" in str(again)


def of_cohort(root, name, signal, seed):
    """Features of the diagnosis cases of a cohort, in which `signal` tells the classes apart."""
    cases = load_task("diagnosis", root, "synthetic").cases
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(cases), 2, 8))
    values[:, :, 0] += signal * np.array([case.participant["diagnosis"] == "dementia" for case in cases])[:, None]
    table = pd.DataFrame([(c.name, c.subject, c.session, c.site, "ok") for c in cases])
    table.columns = ["case", "subject", "session", "site", "status"]
    return Features(
        values.astype(np.float16), np.zeros((len(cases), 2), np.float32), table, name, "0", "r", ("T1w",) * 2
    )


def test_folders_of_features_are_analysed_on_a_task(tmp_path, cohort):
    for name, signal in (("good", 9.0), ("blind", 0.0)):
        write_features(of_cohort(cohort, name, signal, 0), tmp_path / name)
    folders = [tmp_path / "good", tmp_path / "blind"]
    found = analyze_folders(folders, tmp_path / "out", "diagnosis", [cohort], "synthetic")
    assert set(found.encoders["encoder"]) == {"good", "blind"} and len(found.cka) == 1
    best = found.knn.groupby("encoder")["accuracy"].max()
    assert best["good"] > 0.8 and best["good"] > best["blind"]
    pd.testing.assert_frame_equal(read_analysis(tmp_path / "out").knn, found.knn, check_dtype=False)
    assert analyze_folders(folders[:1], tmp_path / "none").knn.empty
    task = load_task("diagnosis", [cohort], "synthetic")
    asked, remembered = ({case.subject for case in task.cases_of(part)} for part in ("test", "train"))
    assert set(found.knn["test_subjects"]) == {len(asked)} and set(found.knn["train_subjects"]) == {len(remembered)}


def test_subjects_that_an_encoder_was_pretrained_on_are_not_asked(tmp_path, cohort):
    """Validation subjects, whom a run need not exclude, are never asked; test subjects only where they are named."""
    task = load_task("diagnosis", [cohort], "synthetic")
    held, test = (f"synthetic/{task.cases_of(part)[0].subject}" for part in ("validation", "test"))
    own = of_cohort(cohort, "good", 9.0, 0)
    write_features(replace(own, seen=frozenset({name_digest(held)})), tmp_path / "held")
    assert len(analyze_folders([tmp_path / "held"], tmp_path / "a", "diagnosis", [cohort], "synthetic").knn)
    write_features(replace(own, seen=frozenset({name_digest(test)})), tmp_path / "seen")
    asked = [tmp_path / "seen"], tmp_path / "b", "diagnosis", [cohort], "synthetic"
    with pytest.raises(LeakageError, match=f"pretrained on 1 subjects of the test split of task diagnosis \\({test}"):
        analyze_folders(*asked)
    assert len(analyze_folders(*asked, acknowledge=[test]).knn)


def test_folders_that_do_not_fit_are_refused(tmp_path, cohort):
    write_features(of_cohort(cohort, "good", 1.0, 0), tmp_path / "one")
    write_features(of_cohort(cohort, "good", 1.0, 1), tmp_path / "two")
    with pytest.raises(ValueError, match="1 encoders only"):
        analyze_folders([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    with pytest.raises(ValueError, match="give --root"):
        analyze_folders([tmp_path / "one"], tmp_path / "out", "diagnosis")
    with pytest.raises(ValueError, match="give a classification task"):
        analyze_folders([tmp_path / "one"], tmp_path / "out", "brain_age", [f"synthetic={cohort}"])
    assert not (tmp_path / "out").exists()
