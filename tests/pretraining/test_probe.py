"""The k-NN probe: neighbours of other subjects only, a subject counts once, held-out people are not trained on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_monitors import on_ranks

from braindino.model.weights import load_encoder
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining import probe as probes
from braindino.pretraining.batches import held_out_subjects, training_subjects
from braindino.pretraining.config import ComputeConfig, ProbeConfig
from braindino.pretraining.networks import Network
from braindino.pretraining.probe import knn_score, probe_of, trivial_score
from braindino.pretraining.ranks import Ranks
from braindino.record import read_record
from braindino.stats.representation import nearest_of_others


@pytest.fixture
def config(small_run):
    small = replace(small_run.optim, lr=1e-3)
    probe = ProbeConfig(every=2, target="contrast", share=0.85)
    loss = replace(small_run.loss, koleo=0.0)
    compute = ComputeConfig(checkpoint_every=2)
    return replace(small_run, steps=5, batch_size=4, probe=probe, optim=small, loss=loss, compute=compute)


def test_neighbours_are_of_other_subjects():
    x = np.array([[1, 0], [1, 0.01], [1, 0.5], [0, 1]])
    subjects = np.array(["a", "a", "b", "c"])
    assert nearest_of_others(x, subjects, 2).tolist() == [[2, 3], [2, 3], [1, 0], [2, 1]]
    with pytest.raises(ValueError, match="k must be 1 to 2"):
        nearest_of_others(x, subjects, 3)


def test_scores_by_hand(monkeypatch):
    monkeypatch.setattr(probes, "NEIGHBOURS", 1)
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.05]])
    subjects = np.array(["a", "b", "c", "d", "a"])
    names = np.array(["F", "F", "M", "F", "F"])  # c and d are each other's neighbour: c is told F, d is told M
    assert knn_score(x, names, subjects) == pytest.approx((2 / 3 + 0) / 2)
    assert trivial_score(names, subjects) == 0.5
    ages = np.array([10.0, 20.0, 50.0, 60.0, 10.0])
    assert knn_score(x, ages, subjects) == pytest.approx(10)
    assert trivial_score(ages, subjects) == pytest.approx(
        np.mean([abs(10 - 130 / 3), abs(20 - 130 / 4), abs(50 - 25), abs(60 - 22.5)])
    )


def test_held_out_subjects_do_not_depend_on_the_others(phantoms, config):
    held_out = held_out_subjects(phantoms, config)
    assert 10 <= len(held_out) < 16 and not set(held_out) & set(training_subjects(phantoms, config))
    fewer = replace(phantoms, scans=phantoms.scans.iloc[8:])
    assert held_out_subjects(fewer, config) == tuple(name for name in held_out if name in set(fewer.names))
    assert held_out_subjects(phantoms, replace(config, seed=1)) != held_out
    left_out = replace(config, exclude=held_out[:2])
    assert held_out_subjects(phantoms, left_out) == held_out[2:]
    assert held_out_subjects(phantoms, replace(config, probe=ProbeConfig())) == ()


def test_missing_values_are_left_out_and_too_few_are_refused(phantoms, config):
    old = replace(config, probe=replace(config.probe, target="age", share=0.99))
    found = probe_of(phantoms, old)
    assert found.values.tolist() == [float(20 + 4 * n) for n in range(2, 16) for _ in range(2)]
    assert np.bincount(found.scan).tolist() == [8] * 28
    one_sex = replace(phantoms, scans=phantoms.scans.assign(sex="F"))
    for corpus, target, share in ((one_sex, "sex", 0.99), (phantoms, "age", 0.3)):
        with pytest.raises(ValueError, match="needs 10 held-out subjects that differ"):
            probe_of(corpus, replace(config, probe=ProbeConfig(every=1, target=target, share=share)))
    with pytest.raises(ValueError, match="no column age"):
        probe_of(replace(phantoms, scans=phantoms.scans.drop(columns="age")), old)
    for wrong in ({"every": -1}, {"share": 0.0}, {"share": 1.0}):
        with pytest.raises(ValueError, match=r"probe\.share above 0"):
            ProbeConfig(**wrong)


def test_ranks_share_out_the_slices(phantoms, config):
    probe, teacher = probe_of(phantoms, config), Network(config).eval()
    alone = probe(teacher, Ranks())
    assert alone["knn_cls"] > 0.9 and alone["knn_trivial"] == 0.5  # bright and dark heads are easy to tell
    for found in on_ranks(3, lambda ranks: probe(teacher, ranks)):
        assert found == pytest.approx(alone, abs=1e-6)


def test_a_run_logs_the_probe_and_names_whom_it_did_not_see(tmp_path, phantoms, config):
    pretrain(config, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "knn_cls" in entry] == [0, 1, 3, 4]
    held_out = list(held_out_subjects(phantoms, config))
    assert load_encoder(tmp_path / "run" / "encoder.safetensors")[1]["source"]["held_out"] == held_out
    assert read_record(tmp_path / "run", "pretrain")["facts"]["held_out"] == held_out
    resumed = tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "0000004").rename(resumed / "checkpoints" / "0000004")
    (resumed / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log[:4]))
    pretrain(config, resumed)
    assert (resumed / "log.jsonl").read_text() == (tmp_path / "run" / "log.jsonl").read_text()
