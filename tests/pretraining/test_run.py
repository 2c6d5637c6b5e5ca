"""The run as a whole: it learns, it resumes to the same bytes, it refuses what does not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from braindino.config import read_config
from braindino.model.config import ViTConfig
from braindino.model.weights import load_encoder
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining import loop
from braindino.pretraining.batches import Batches, crops_at, training_subjects
from braindino.pretraining.checkpoint import load_checkpoint
from braindino.pretraining.config import (
    ComputeConfig,
    CropConfig,
    HeadConfig,
    LossConfig,
    PretrainConfig,
    TeacherConfig,
)
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.schedules import schedules_of
from braindino.pretraining.setup import set_up
from braindino.reporting.figures_training import PANELS
from corpora import heads_corpus
from faults import Count, attempts
from test_config import CONFIGS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return heads_corpus(tmp_path_factory.mktemp("heads"), 6)


@pytest.fixture
def config(corpus):
    small = HeadConfig(hidden=32, bottleneck=16, prototypes=64)
    return PretrainConfig(
        corpus=corpus.folder,
        steps=6,
        batch_size=4,
        compute=ComputeConfig(checkpoint_every=2),
        model=ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=0.1, drop_path=0.2),
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=small,
        ibot_head=small,
    )


def test_a_batch_has_one_slice_per_subject_and_is_a_function_of_the_step(corpus, config):
    batches = Batches(corpus, config, training_subjects(corpus, config))
    for step in range(5):
        subjects = corpus.index["subject"].to_numpy()[batches.slices(step)]
        assert len(set(subjects)) == 4
        assert np.array_equal(batches.slices(step), batches.slices(step))
    assert not np.array_equal(batches.slices(0), batches.slices(1))
    assert torch.equal(batches[3][0].global_crops, batches[3][0].global_crops)


def test_sampling_by_slices_sees_every_slice_once_per_epoch(tmp_path, corpus, config):
    config = replace(config, sampling="slices", exclude=tuple(sorted(corpus.slices_of_subject))[:1])
    batches = Batches(corpus, config, training_subjects(corpus, config))
    epoch = np.concatenate([batches.slices(step) for step in range(-(-50 // 4))])[:50]
    assert sorted(epoch) == list(range(10, 60))
    assert (tmp_path / "run" / "encoder.safetensors") == pretrain(config, tmp_path / "run")


@pytest.mark.parametrize(("ranks", "micro_batch"), [(1, 0), (1, 3), (2, 0), (3, 2), (4, 1), (12, 0)])
def test_ranks_and_passes_share_the_batch_out(corpus, config, ranks, micro_batch):
    config = replace(config, batch_size=12, compute=ComputeConfig(micro_batch=micro_batch))
    shares = [Batches(corpus, config, (), rank, ranks).places for rank in range(ranks)]
    passes = [[*places] for of_pass in zip(*shares, strict=True) for places in of_pass]
    assert [place for places in passes for place in places] == [*range(12)]
    assert {len(places) for places in passes} == {micro_batch or 12 // ranks}


def test_excluded_subjects_are_never_seen(corpus, config):
    every = sorted(corpus.slices_of_subject)
    config = replace(config, exclude=tuple(every[:2]))
    subjects = training_subjects(corpus, config)
    assert subjects == tuple(every[2:])
    names = corpus.index["cohort"] + "/" + corpus.index["subject"]
    seen = {name for step in range(30) for name in names[Batches(corpus, config, subjects).slices(step)]}
    assert seen == set(every[2:])
    with pytest.raises(ValueError, match="not in the corpus"):
        training_subjects(corpus, replace(config, exclude=("x/y",)))
    with pytest.raises(ValueError, match="no subject is left"):
        training_subjects(corpus, replace(config, exclude=tuple(every)))


def _weights(run):
    return load_encoder(run / "encoder.safetensors")[1]["digest"]


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


@pytest.mark.parametrize("steps_before_kill", [1, 2, 3, 5])
def test_killed_and_resumed_gives_the_same_weights_and_log(tmp_path, config, steps_before_kill, monkeypatch):
    pretrain(config, tmp_path / "whole")
    step, count = loop._step, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count > steps_before_kill:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", interrupted)
    with pytest.raises(Killed):
        pretrain(config, tmp_path / "killed")
    monkeypatch.setattr(loop, "_step", step)
    pretrain(config, tmp_path / "killed")
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")
    assert (tmp_path / "killed" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, config, monkeypatch):
    pretrain(config, tmp_path / "whole")
    run = tmp_path / "run"
    monkeypatch.setattr("braindino.pipeline.pretrain.write_record", lambda *a, **k: None)
    pretrain(config, run)
    monkeypatch.undo()
    newest = sorted((run / "checkpoints").iterdir())[-1]
    data = bytearray((newest / "state.safetensors").read_bytes())
    data[-100] ^= 1
    (newest / "state.safetensors").write_bytes(bytes(data))
    pretrain(config, run)
    assert _weights(run) == _weights(tmp_path / "whole")


def test_a_half_written_checkpoint_is_ignored_and_said(tmp_path, config, corpus, monkeypatch, capsys):
    """The newest checkpoint cut anywhere, or without its record, as a run leaves it that is killed while it writes."""
    run, rng, count = tmp_path / "run", np.random.default_rng(20), Count(20, "a half-written or damaged checkpoint")
    monkeypatch.setattr("braindino.pipeline.pretrain.write_record", lambda *a, **k: None)
    pretrain(config, run)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    good = {name: (newest / name).read_bytes() for name in ("state.safetensors", "record.json")}
    state = set_up(config, None, Ranks()).state
    capsys.readouterr()
    for number in attempts(6, 60):
        name = ("state.safetensors", "record.json")[number % 2]
        data = bytearray(good[name])
        if number % 6 < 4:
            data = data[: rng.integers(len(data))]
        elif name == "state.safetensors":
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (newest / name).write_bytes(bytes(data))
        if number % 6 == 5:
            (newest / name).unlink()
        assert load_checkpoint(run, state, loop.identity_of(config, corpus)) == 4
        assert f"checkpoint {newest.name} is half-written or damaged" in " ".join(capsys.readouterr().err.split())
        (newest / name).write_bytes(good[name])
        count.refused += 1
    assert load_checkpoint(run, state, loop.identity_of(config, corpus)) == 6 and not capsys.readouterr().err
    count.done()


def test_at_most_two_checkpoints_are_kept(tmp_path, config):
    pretrain(config, tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["0000004", "0000006"]


def test_a_finished_run_is_not_repeated_and_another_config_is_refused(tmp_path, config):
    pretrain(config, tmp_path)
    time = (tmp_path / "encoder.safetensors").stat().st_mtime_ns
    pretrain(config, tmp_path)
    assert (tmp_path / "encoder.safetensors").stat().st_mtime_ns == time
    with pytest.raises(ValueError, match="another config"):
        pretrain(replace(config, seed=1), tmp_path)


def test_a_run_and_its_corpus_may_be_moved(tmp_path, monkeypatch, config):
    """They are told by what they hold: the same command from elsewhere repeats nothing, and a part of it goes on."""
    first = replace(config, corpus=tmp_path / "corpus", steps=4)
    shutil.copytree(config.corpus, first.corpus)
    pretrain(first, tmp_path / "run")
    encoder = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    (tmp_path / "away").mkdir()
    for name in ("corpus", "run"):
        (tmp_path / name).rename(tmp_path / "away" / name)
    monkeypatch.chdir(tmp_path / "away")
    moved = replace(first, corpus=Path("corpus"))
    (Path("run") / "record.json").unlink()
    pretrain(moved, Path("run"))
    assert (Path("run") / "encoder.safetensors").read_bytes() == encoder
    time = (Path("run") / "log.jsonl").stat().st_mtime_ns
    pretrain(moved, Path("run"))
    assert (Path("run") / "log.jsonl").stat().st_mtime_ns == time
    with pytest.raises(ValueError, match="another config, corpus or initial"):
        pretrain(replace(moved, corpus=heads_corpus(tmp_path / "other", 7).folder), Path("run"))


def test_stage_2_starts_from_stage_1s_teacher_and_anchors_to_it(tmp_path, config):
    pretrain(config, tmp_path / "one")
    high = replace(config.crops, global_px=48, gram_px=48)
    second = replace(config, initial=tmp_path / "one", crops=high, loss=LossConfig(gram=1.5, local=0.5))
    pretrain(second, tmp_path / "two")
    log = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert all(entry["gram"] >= 0 for entry in log) and len(log) == 6
    assert _weights(tmp_path / "one") != _weights(tmp_path / "two")
    frozen = replace(second, steps=1, teacher=TeacherConfig(momentum=(1.0, 1.0)))
    pretrain(frozen, tmp_path / "frozen")
    assert _weights(tmp_path / "frozen") == _weights(tmp_path / "one")
    with pytest.raises(ValueError, match="differs from that of the run before"):
        pretrain(replace(second, dino_head=HeadConfig(32, 16, 32)), tmp_path / "other")
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(ValueError, match="does not exist"):
        pretrain(second, tmp_path / "three")


MIXED = ((32, 16, 48, 0.5), (48, 16, 64, 0.25), (48, 24, 64, 0.25))


def test_rates_of_the_two_stages_are_the_documented_ones():
    one, two = (schedules_of(read_config(CONFIGS / f"stage{n}.toml", PretrainConfig)).rate for n in (1, 2))
    assert one.value(12_500) == pytest.approx(2.83e-3, rel=1e-3) and one.value(124_999) == pytest.approx(1e-6)
    assert two.value(4988) == pytest.approx(1.768e-5, rel=1e-3)
    assert two.value(9976) == two.value(57_999) == pytest.approx(3.536e-5, rel=1e-3)


def test_mixed_sizes_are_drawn_by_their_probabilities_from_the_step_alone(config):
    mixed = replace(config, crops=replace(config.crops, sizes=MIXED))
    drawn = [crops_at(mixed, step) for step in range(2000)]
    assert drawn == [crops_at(mixed, step) for step in range(2000)]
    assert drawn[:20] != [crops_at(replace(mixed, seed=1), step) for step in range(20)]
    for global_px, local_px, gram_px, share in MIXED:
        found = np.mean([(c.global_px, c.local_px, c.gram_px) == (global_px, local_px, gram_px) for c in drawn])
        assert abs(found - share) < 0.04
    assert all(not crops.sizes for crops in drawn) and crops_at(config, 3) == config.crops


def killed_and_resumed(config, run, monkeypatch):
    """A run that dies right after its first checkpoint, and the same call once more."""
    save = loop.save_checkpoint

    def killed(run, step, *arguments):
        save(run, step, *arguments)
        raise Killed

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(Killed):
        pretrain(config, run)
    monkeypatch.undo()
    pretrain(config, run)


def test_stage_2_with_mixed_sizes_trains_and_resumes_to_the_same_bytes(tmp_path, corpus, config, monkeypatch):
    pretrain(replace(config, steps=2), tmp_path / "one")
    mixed = replace(config.crops, sizes=MIXED)
    second = replace(config, initial=tmp_path / "one", crops=mixed, loss=LossConfig(gram=1.5, local=0.5))
    batches = Batches(corpus, second, training_subjects(corpus, second))
    shapes = {tuple(crops.shape[-1] for crops in list(vars(batches[step][0]).values())[:3]) for step in range(6)}
    assert len(shapes) >= 2 and shapes <= {row[:3] for row in MIXED}
    pretrain(second, tmp_path / "whole")
    killed_and_resumed(second, tmp_path / "killed", monkeypatch)
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")
    assert (tmp_path / "killed" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


def test_a_refreshed_gram_teacher_comes_back_after_a_kill(tmp_path, config, monkeypatch):
    """It is then no longer the initial run's: a run that goes on without it learns something else."""
    pretrain(replace(config, steps=2), tmp_path / "one")
    second = replace(config, initial=tmp_path / "one", loss=LossConfig(gram=1.5, local=0.5, gram_refresh=1))
    pretrain(second, tmp_path / "whole")
    killed_and_resumed(second, tmp_path / "killed", monkeypatch)
    assert (tmp_path / "killed" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")


def test_every_number_of_the_log_is_drawn(tmp_path, config):
    """What no panel shows would be measured for nobody."""
    pretrain(replace(config, steps=1), tmp_path)
    entry = json.loads((tmp_path / "log.jsonl").read_text())
    assert set(entry) - {"step", "finite"} <= {name for _, names, _ in PANELS for name, _ in names}


def test_the_loss_falls_and_the_features_do_not_collapse(tmp_path, config):
    longer = replace(
        config, steps=60, compute=ComputeConfig(checkpoint_every=60), teacher=TeacherConfig(momentum=(0.95, 1.0))
    )
    pretrain(longer, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = (np.mean([entry["total"] for entry in part]) for part in (log[:10], log[-10:]))
    assert last < first
    assert log[-1]["cls_cosine"] < 0.9 and log[-1]["effective_rank"] > 2


def _break(monkeypatch, steps):
    """Make the loss NaN at some steps, where it is told from by its seed."""
    real = loop.student_loss

    def broken(*arguments):
        losses, seed = real(*arguments), arguments[-1].initial_seed()
        return {name: loss * float("nan") for name, loss in losses.items()} if seed in steps else losses

    monkeypatch.setattr(loop, "student_loss", broken)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, corpus, config, monkeypatch):
    _break(monkeypatch, {0, 1, 2})
    with pytest.raises(ValueError, match="not finite at steps 0 to 2"):
        pretrain(config, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    batches = Batches(corpus, config, training_subjects(corpus, config))
    assert [entry["slices"] for entry in log] == [batches.slices(step).tolist() for step in range(3)]


def test_a_single_bad_step_is_skipped_and_its_slices_are_kept(tmp_path, corpus, config, monkeypatch):
    _break(monkeypatch, {0, 2})
    pretrain(config, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["finite"] for entry in log] == [False, True, False, True, True, True]
    assert [entry["step"] for entry in log if "slices" in entry] == [0, 2]
    assert all(torch.isfinite(value).all() for value in load_encoder(tmp_path / "encoder.safetensors")[0].parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"crops": CropConfig(global_px=30, local_px=16)}, "global_px"),
        ({"crops": CropConfig(local_px=16, sizes=((32, 20, 0, 1.0),))}, "local_px is 20, expected a multiple of"),
        ({"loss": LossConfig(gram=1.0)}, "initial"),
        ({"batch_size": 2}, "koleo"),
        ({"weights": (("folder", 2.0),)}, "sampling"),
    ],
)
def test_impossible_configs_are_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **change)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.5, -0.5)])
def test_probabilities_of_mixed_sizes_must_be_some(shares):
    with pytest.raises(ValueError, match="probabilities, above 0 and with the sum 1"):
        CropConfig(sizes=tuple((32, 16, 0, share) for share in shares))
