"""What the sections say: who was pretrained on, names."""

from pathlib import Path

import pandas as pd
import pytest

from braindino.layouts.labels import SCHEMES
from braindino.record import fingerprint
from braindino.reporting.artefacts import Artefacts, answers_of
from braindino.reporting.corpus_view import CorpusView
from braindino.reporting.names import label_names, metric_label, model_label, task_label
from braindino.reporting.sections_data import leakage, pretrained_people
from braindino.types import Case, Scan
from braindino.volume.recipe import Recipe


def found(exclude, parent=None, held_out=()):
    scans = pd.DataFrame({"cohort": "c", "person": ["c/1", "c/2", "c/3"], "slices": 1})
    corpus = {"verb": "prepare", "config": {}, "parents": {}, "files": {}}
    run = {"config": {"exclude": exclude}, "parents": {"corpus": parent or fingerprint(corpus)}}
    run |= {"facts": {"held_out": list(held_out)}} if held_out else {}
    base = {"task": "t", "kind": "regression", "encoder": "e", "head": "linear", "fraction": 1.0, "seed": 0}
    table = pd.DataFrame(
        [base | {"perturbation": "none", "severity": 0, "split": "test", "case": n, "status": "ok"} for n in "12"]
    )
    cases = {n: Case(n, (Scan("c", n, "T1w", Path("x")),)) for n in "12"}
    view = CorpusView(scans, pd.DataFrame(), (), Recipe())
    answers = answers_of(Path("p"), table)
    return Artefacts(view, logs={"r": []}, answers=answers, cases=cases, records={"corpus": corpus, "run r": run})


def test_test_subjects_that_were_pretrained_on_are_named():
    assert leakage(found(["c/1", "c/2"])).startswith(
        "None of the 2 test subjects (of any task) is among the 1 subjects"
    )
    assert leakage(found(["c/1"])).startswith("LEAKAGE: the encoder was pretrained on slices of 1 test subject (c/2)")
    assert pretrained_people(found(["c/1"])) == {"c/2", "c/3"}
    assert pretrained_people(found(["c/1"], held_out=("c/3",))) == {"c/2"}


def test_nothing_is_said_of_leakage_where_the_run_was_made_from_another_corpus():
    assert leakage(found(["c/1"], parent="0" * 64)) == "" and pretrained_people(Artefacts()) is None


@pytest.mark.parametrize(
    ("encoder", "head", "others", "label"),
    [
        ("random_init", "linear", (), "random init, linear"),
        ("braindino", "linear", ("linear", "prior"), "braindino"),
        ("braindino", "linear", ("linear", "cox"), "braindino, linear"),
        ("braindino", "prior", (), "prior"),
        ("braindino", "prior+combat", (), "prior (ComBat)"),
        ("braindino+concat", "cox+combat", (), "braindino (contrasts concatenated), cox (ComBat)"),
        (
            "braindino@brain+mean_patch+weighted",
            "linear",
            ("linear", "prior+combat"),
            "braindino (brain, patch mean, contrasts weighted)",
        ),
        ("random_init", "linear+combat+isotonic", ("linear",), "random init, linear (ComBat, isotonic)"),
    ],
)
def test_models_in_words(encoder, head, others, label):
    assert model_label(encoder, head, others) == label


def test_tasks_metrics_and_labels_in_words():
    assert task_label("brain_age") == "Brain age" and task_label("") == "" and task_label("ad_vs_cn") == "AD vs CN"
    assert metric_label("mae", unit="years") == "MAE (years), lower is better"
    assert metric_label("roc_auc", unit="class", arrow=True) == "AUC ↑" and metric_label("own_metric") == "own metric"
    assert label_names(SCHEMES["brats2023"].regions)[2] == "oedema" and label_names({"stroke": (1,)}) == {}
