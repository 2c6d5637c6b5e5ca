"""What the sections count: slices by cohort and contrast, who was pretrained on, names."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from braindino.layouts.labels import SCHEMES
from braindino.record import fingerprint
from braindino.reporting.artefacts import Artefacts, answers_of
from braindino.reporting.corpus_view import TILES, CorpusView, corpus_view
from braindino.reporting.names import label_names, metric_label, model_label, task_label
from braindino.reporting.sections_data import leakage, pretrained_people
from braindino.types import Case, Scan
from braindino.volume.recipe import Recipe


def index(*groups):
    """Slices of (cohort, subject, contrast, how many)."""
    rows = [(cohort, subject, "east", contrast) for cohort, subject, contrast, n in groups for _ in range(n)]
    return pd.DataFrame(rows, columns=["cohort", "subject", "site", "contrast"])


def test_tiles_are_drawn_as_evenly_as_the_corpus_allows():
    table = index(("a", "1", "T1w", 500), ("a", "2", "T1w", 500), ("b", "1", "T2w", 500), ("b", "1", "FLAIR", 2))
    tables = {"index": table, "scans": pd.DataFrame(), "overlaps": pd.DataFrame()}
    channels = np.float32([-1, 1, -1]).reshape(3, 1, 1) * np.ones((2, 2), np.float32)
    view = corpus_view(SimpleNamespace(**tables, recipe=Recipe(neighbours=1), read=lambda row: row * channels))
    kinds = pd.Series([(tile.cohort, tile.contrast) for tile in view.tiles]).value_counts().to_dict()
    assert kinds == {("a", "T1w"): 11, ("b", "T2w"): 11, ("b", "FLAIR"): 2} and len(view.tiles) == TILES
    rows = [int(tile.image[0, 0]) for tile in view.tiles]
    assert all(table.iloc[row]["contrast"] == tile.contrast for row, tile in zip(rows, view.tiles, strict=True))
    assert len(set(rows)) == TILES and view.people == {"a/1", "a/2", "b/1"}
    assert view.counts.set_index(["person", "contrast"])["slices"].to_dict() == {
        ("a/1", "T1w"): 500, ("a/2", "T1w"): 500, ("b/1", "T2w"): 500, ("b/1", "FLAIR"): 2,
    }  # fmt: skip


def found(exclude, parent=None):
    counts = index(("c", "1", "T1w", 1), ("c", "2", "T1w", 1), ("c", "3", "T1w", 1)).assign(slices=1)
    counts["person"] = counts["cohort"] + "/" + counts["subject"]
    corpus = {"verb": "prepare", "config": {}, "parents": {}, "files": {}}
    run = {"config": {"exclude": exclude}, "parents": {"corpus": parent or fingerprint(corpus)}}
    base = {"task": "t", "kind": "regression", "encoder": "e", "head": "linear", "fraction": 1.0, "seed": 0}
    table = pd.DataFrame([base | {"perturbation": "none", "split": "test", "case": n, "status": "ok"} for n in "12"])
    cases = {n: Case(n, (Scan("c", n, "T1w", Path("x")),)) for n in "12"}
    view = CorpusView(counts, pd.DataFrame(), pd.DataFrame(), (), Recipe())
    answers = (answers_of(Path("p"), table),)
    return Artefacts(view, logs={"r": []}, answers=answers, cases=cases, records={"corpus": corpus, "run r": run})


def test_test_subjects_that_were_pretrained_on_are_named():
    assert leakage(found(["c/1", "c/2"])).startswith(
        "None of the 2 test subjects (of any task) is among the 1 subjects"
    )
    assert leakage(found(["c/1"])).startswith("LEAKAGE: the encoder was pretrained on slices of 1 test subject (c/2)")
    assert pretrained_people(found(["c/1"])) == {"c/2", "c/3"}


def test_nothing_is_said_of_leakage_where_the_run_was_made_from_another_corpus():
    assert leakage(found(["c/1"], parent="0" * 64)) == "" and pretrained_people(Artefacts()) is None


@pytest.mark.parametrize(
    ("encoder", "head", "others", "label"),
    [
        ("random_init", "linear", (), "random init, linear"),
        ("braindino", "linear", ("linear", "prior"), "braindino"),
        ("braindino", "linear", ("linear", "cox"), "braindino, linear"),
        ("braindino", "prior", (), "prior"),
    ],
)
def test_models_in_words(encoder, head, others, label):
    assert model_label(encoder, head, others) == label


def test_tasks_metrics_and_labels_in_words():
    assert task_label("brain_age") == "Brain age" and task_label("") == ""
    assert metric_label("mae", unit="years") == "MAE (years), lower is better"
    assert metric_label("roc_auc", unit="class", arrow=True) == "AUC ↑" and metric_label("own_metric") == "own metric"
    assert label_names(SCHEMES["brats2023"].regions)[2] == "oedema" and label_names({"stroke": (1,)}) == {}
