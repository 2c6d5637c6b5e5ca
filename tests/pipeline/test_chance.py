"""Through the whole line: labels exchanged between subjects tell a head nothing, and a leak of them would be seen.

benchmarks/chance.py does this for every head and task.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score
from braindino.record import read_table, write_table

PERMUTATIONS = 12
"""Of nine test subjects each: a standard error of about 0.04 of the mean AUC."""


def exchanged(cohort, out, number):
    """The cohort's folder with another participants table: each subject is told the group of another."""
    table = read_table(cohort / "participants.tsv", text=("participant_id",))
    for path in cohort.iterdir():
        if path.name != "participants.tsv":
            (out / path.name).symlink_to(path)
    groups = table["group"].to_numpy()
    diagnosis = np.random.default_rng(number).permutation(groups) if number else groups
    write_table(out / "participants.tsv", table.assign(diagnosis=diagnosis))
    return out


@pytest.fixture(scope="module")
def tasks(cohort, tmp_path_factory):
    """Diagnosis of three classes, every permutation read from its own folder and split by its own labels."""
    folders = [exchanged(cohort, tmp_path_factory.mktemp("exchanged"), n) for n in range(PERMUTATIONS + 1)]
    return [load_task("diagnosis", folder, "synthetic") for folder in folders]


@pytest.fixture(scope="module")
def features(tasks, weights):
    return encode(tasks[0].cases, load_encoder("braindino", weights))


def found(task, features, head):
    """AUC of the test subjects."""
    metrics = score(predict(task, features, fit(task, features, head)).table, draws=1).metrics
    return float(metrics.set_index("metric").loc["roc_auc", "value"])


def error(values):
    return (np.mean(values) - 0.5) / (np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("head", ["linear", "knn"])
def test_labels_that_were_exchanged_tell_nothing(tasks, features, head):
    values = [found(task, features, head) for task in tasks[1:]]
    assert abs(error(values)) < 4 and abs(np.mean(values) - 0.5) < 0.16


@pytest.mark.parametrize("head", ["linear", "knn"])
def test_a_leak_of_the_label_into_the_features_is_seen(tasks, features, head):
    values = []
    for task in tasks[1:4]:
        labels = pd.Series({case.name: case.participant["diagnosis"] for case in task.cases})
        told = pd.get_dummies(labels[features.cases["case"]]).to_numpy(np.float16)
        leaking = replace(features, values=features.values + np.tile(told, 11)[:, None, :32])
        values.append(found(task, leaking, head))
    assert np.mean(values) > 0.8


def test_exchanging_moves_labels_and_nothing_else(tasks):
    true, other = ({case.name: case for case in task.cases} for task in tasks[:2])
    labels = [[case.participant["diagnosis"] for case in cases.values()] for cases in (true, other)]
    assert sorted(labels[0]) == sorted(labels[1]) and labels[0] != labels[1]
    for name, case in true.items():
        same = {key: value for key, value in case.participant.items() if key != "diagnosis"}
        assert same == {key: value for key, value in other[name].participant.items() if key != "diagnosis"}
        assert case.site == other[name].site
