"""What a run tells while it trains: the line, the alarms, TensorBoard's events."""

import json
import sys
from dataclasses import replace

import pytest

from braindino.pretraining.config import ProbeConfig
from braindino.pretraining.events import events
from braindino.pretraining.watch import PATIENCE, alarms, live_line

HEALTHY = {"total": 5.0, "target_entropy": 2.0, "prototypes_used": 30, "cls_cosine": 0.1, "effective_rank": 9.0}


def log_of(steps, **change):
    return [{"step": step, **HEALTHY, **change} for step in range(steps)]


def test_line(small_run):
    log = log_of(3)
    assert live_line(log, small_run) == "loss 5.000, targets 48% of ln K, rank 9.0"
    probed = replace(small_run, probe=ProbeConfig(every=2))
    log[1]["knn_cls"] = 7.25
    assert live_line(log, probed).endswith("rank 9.0, k-NN 7.25")
    assert live_line(log + log_of(2), probed).endswith("rank 9.0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cls_cosine": 0.995}, "same way"),
        ({"effective_rank": 1.5}, "fewer than 2"),
        ({"prototypes_used": 1}, "one prototype"),
        ({"target_entropy": 4.15}, "uniform"),
    ],
)
def test_an_alarm_is_said_once_after_many_steps(small_run, change, words):
    config = replace(small_run, steps=100)
    assert all(not alarms(log_of(n), config) for n in (1, PATIENCE, 2 * PATIENCE))
    log = log_of(20) + [entry | {"step": entry["step"] + 20} for entry in log_of(100, **change)]
    said = [n for n in range(len(log)) if alarms(log[: n + 1], config)]
    assert said == [20 + PATIENCE - 1] and words in alarms(log[: said[0] + 1], config)[0]


def test_targets_may_be_uniform_during_the_warm_up(small_run):
    config = replace(small_run, steps=1000)
    log = log_of(100 + PATIENCE, target_entropy=4.15)
    assert [n for n in range(len(log)) if alarms(log[: n + 1], config)] == [100 + PATIENCE - 1]


def test_tensorboard_shows_the_log_and_a_resumed_run_is_not_doubled(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = log_of(6)
    log[3]["knn_cls"] = 7.0
    with events(tmp_path, 0, True) as write:
        write(log[:2])
        write(log[:5])  # killed before the checkpoint of step 5 was whole: the run goes on from step 2
    changed = log[:2] + [entry | {"total": 4.0} for entry in log[2:]]
    with events(tmp_path, 2, True) as write:
        write(changed)
    found = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True)
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("total")] == [
        (n, 5.0 if n < 2 else 4.0) for n in range(6)
    ]
    assert [event.step for event in found.Scalars("knn_cls")] == [3]
    assert set(found.Tags()["scalars"]) == {*HEALTHY, "knn_cls"}


def test_tensorboard_is_asked_for_and_named_where_it_is_missing(tmp_path, monkeypatch):
    with events(tmp_path, 0, False) as write:
        write(log_of(2))
    assert not list(tmp_path.iterdir())
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"] + ["tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'braindino\[tensorboard\]'"), events(tmp_path, 0, True):
        pass


def test_a_run_writes_events_only_where_it_is_asked(tmp_path, phantoms, small_run):
    pytest.importorskip("tensorboard")
    from braindino.pipeline.pretrain import pretrain

    short = replace(small_run, steps=2)
    pretrain(replace(short, compute=replace(short.compute, tensorboard=True)), tmp_path / "with")
    pretrain(short, tmp_path / "without")
    assert len(list((tmp_path / "with" / "tensorboard").glob("events*"))) == 1
    assert not (tmp_path / "without" / "tensorboard").exists()
    logs = [json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[-1]) for run in ("with", "without")]
    assert logs[0] == logs[1]
