"""Two processes give the curve of one: losses, monitors and weights, with DDP and FSDP, in stage 1 and stage 2."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from braindino.config import to_dict
from braindino.corpus.shards import open_corpus
from braindino.model.config import ViTConfig
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining import loop
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.checkpoint import WHOLE
from braindino.pretraining.config import ComputeConfig, CropConfig, HeadConfig, LossConfig, OptimConfig, PretrainConfig
from braindino.pretraining.initial import gram_teacher
from braindino.record import write_json
from corpora import heads_corpus

STEPS = 20
TEMPLATE = Path(__file__).parents[2] / "docs" / "pretrain.sbatch"
SCRIPT = """import sys
from braindino.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
"""
MANY = "import sys; from braindino.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Configs of a stage 1, of a stage 2 that starts from it and of one with an early Gram teacher; their curves by one
    process."""
    folder = tmp_path_factory.mktemp("ranks")
    corpus = heads_corpus(folder, 8)
    small = HeadConfig(hidden=32, bottleneck=16, prototypes=64, unit_prototypes=True)
    one = PretrainConfig(
        corpus=corpus.folder,
        steps=STEPS,
        batch_size=8,
        model=ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=1.0),
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=small,
        ibot_head=small,
        loss=LossConfig(koleo_group=8, sigreg=0.02),
        optim=OptimConfig(lr=1e-3),
        compute=ComputeConfig(checkpoint_every=10),
    )
    pretrain(one, folder / "one")
    high = replace(one.crops, global_px=48, gram_px=48)
    loss = LossConfig(gram=1.5, local=0.5, koleo_group=4, gram_refresh=3)
    two = replace(one, initial=folder / "one", crops=high, loss=loss)
    pretrain(two, folder / "two")
    early = replace(two, gram_initial=folder / "one" / "checkpoints" / f"{STEPS // 2:07d}")
    pretrain(early, folder / "early")
    return folder, {"one": one, "two": two, "early": early}


def run(folder, config, out, *, ranks=2, **compute):
    """Pretrain with torchrun, from a record as a user would repeat a run."""
    config = replace(config, compute=replace(config.compute, **compute))
    plain = folder / f"{out.name}.json"
    write_json(plain, to_dict(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["--no-python", sys.executable, "-c", MANY, "pretrain", str(plain), "--out", str(out)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def curve(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_curve(found, expected, tolerance=1e-5):
    assert len(found) == len(expected) == STEPS
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=tolerance, abs=1e-7), (theirs["step"], name)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("stage", ["one", "early"])
def test_two_processes_give_the_curve_of_one(tmp_path, stages, stage, parallel):
    folder, configs = stages
    process = run(folder, configs[stage], tmp_path / "run", parallel=parallel, micro_batch=2 if stage == "early" else 0)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_curve(curve(tmp_path / "run"), curve(folder / stage))
    ours, theirs = (load_file(path / "teacher.safetensors") for path in (tmp_path / "run", folder / stage))
    for name, value in theirs.items():
        assert np.allclose(ours[name], value, rtol=1e-4, atol=1e-6), name
    if stage == "one":  # a checkpoint is a Gram teacher, whole (DDP) or in parts (FSDP)
        early = tmp_path / "run" / "checkpoints" / f"{STEPS // 2:07d}"
        assert (early / WHOLE).is_file() == (parallel == "ddp")
        anchor, expected = gram_teacher(replace(configs["early"], gram_initial=early)), gram_teacher(configs["early"])
        for ours, theirs in zip(anchor.parameters(), expected.parameters(), strict=True):
            assert np.allclose(ours.detach(), theirs.detach(), rtol=1e-4, atol=1e-6)


def test_another_number_of_processes_goes_on_from_where_one_was_stopped(tmp_path, stages):
    """Two FSDP processes, terminated; then one; then two with DDP: the curve is the undisturbed one's.

    In stage 2, whose Gram teacher has changed by then.
    """
    folder, configs = stages
    process = run(folder, configs["two"], tmp_path / "run", parallel="fsdp", checkpoint_every=2)
    saved = tmp_path / "run" / "checkpoints" / "0000002" / "record.json"
    deadline = time.monotonic() + 240
    while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode and "is saved; the same command goes on" in errors, errors
    before = len(curve(tmp_path / "run"))
    assert 2 <= before < STEPS
    one = replace(configs["two"], compute=ComputeConfig(checkpoint_every=2))
    stop_after(one, tmp_path / "run", min(before + 4, STEPS - 2))
    process = run(folder, configs["two"], tmp_path / "run")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_curve(curve(tmp_path / "run"), curve(folder / "two"))


def stop_after(config, out, steps):
    """One process, terminated by its own hand after `steps` steps."""
    real = loop._step

    def terminated(*arguments):
        if arguments[-2] + 1 >= steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(loop, "_step", terminated)
        pretrain(config, out)
    assert stopped.value.code == loop.TERMINATED and len(curve(out)) == steps


@pytest.mark.parametrize(
    "change",
    [{}, {"centring": "ema"}, {"koleo_group": 4}],
    ids=["sinkhorn", "ema", "groups of 4"],
)
def test_passes_add_up_to_the_step(tmp_path, stages, change):
    """Targets are balanced over the whole step, whatever the passes."""
    _, configs = stages
    config = replace(
        configs["two"], steps=4, loss=replace(configs["two"].loss, **({"koleo_group": 2, "koleo": 0.0} | change))
    )
    for name, micro_batch in (("whole", 0), ("passes", 4)):
        pretrain(replace(config, compute=ComputeConfig(micro_batch=micro_batch)), tmp_path / name)
    for ours, theirs in zip(curve(tmp_path / "passes"), curve(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)


def test_what_cannot_be_shared_out_is_refused(tmp_path, stages):
    _, configs = stages
    one = configs["one"]
    with pytest.raises(ValueError, match="micro_batch 3 does not divide the 8 slices"):
        pretrain(replace(one, compute=ComputeConfig(micro_batch=3)), tmp_path / "run")
    with pytest.raises(ValueError, match="koleo looks for neighbours among 8 slices"):
        pretrain(replace(one, loss=LossConfig(), compute=ComputeConfig(micro_batch=2)), tmp_path / "run")
    sigreg = replace(one, loss=LossConfig(koleo=0.0, sigreg=0.02), compute=ComputeConfig(micro_batch=4))
    with pytest.raises(ValueError, match="sigreg looks at all 8 slices of a step at once, but a pass holds 4 on each"):
        pretrain(sigreg, tmp_path / "run")
    corpus = open_corpus(one.corpus)
    batches = Batches(corpus, one, training_subjects(corpus, one), rank=0, ranks=3)
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared by 3 processes"):
        batches.passes(0)


def test_recomputed_blocks_give_the_same_step(tmp_path, stages):
    """Also with drop path, whose draws the second computation has to repeat."""
    _, configs = stages
    model = replace(configs["one"].model, drop_path=0.3)
    config = replace(configs["one"], steps=3, model=model)
    pretrain(config, tmp_path / "plain")
    pretrain(replace(config, compute=ComputeConfig(checkpoint_activations=True)), tmp_path / "again")
    assert curve(tmp_path / "again") == curve(tmp_path / "plain")


def test_worker_processes_make_the_same_batches(tmp_path, stages):
    _, configs = stages
    config = replace(configs["two"], steps=4)
    pretrain(config, tmp_path / "thread")
    pretrain(replace(config, compute=ComputeConfig(workers=2)), tmp_path / "workers")
    assert curve(tmp_path / "workers") == curve(tmp_path / "thread")


SRUN = """#!/bin/bash
# Two tasks on this machine; SIGTERM is handed on, the highest exit code is given back.
shift
for n in 0 1; do SLURM_PROCID=$n SLURM_LOCALID=$n "$@" & pids="${pids:-} $!"; done
preempt() { for n in {1..2000}; do [ -e "$SAVED" ] && break; sleep 0.05; done; kill -TERM $pids; }
[ -e "$PREEMPT" ] && rm "$PREEMPT" && preempt > /dev/null &
code=0
for pid in $pids; do wait $pid; found=$?; [ $found -gt $code ] && code=$found; done
exit $code
"""
SCONTROL = """#!/bin/bash
case "$1" in show) echo 127.0.0.1 ;; requeue) touch "$REQUEUED" ;; esac
"""


def test_the_sbatch_template_requeues_itself_and_goes_on(tmp_path, stages):
    """The template as it stands, with stand-ins for the two commands of SLURM: preempted once, then run to its end."""
    folder, configs = stages
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    plain, out = tmp_path / "config.json", tmp_path / "run"
    write_json(plain, to_dict(replace(configs["one"], compute=ComputeConfig(checkpoint_every=1))))
    (tmp_path / "preempt").touch()
    (tmp_path / "run_verb.py").write_text(SCRIPT)
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "here"}
    slurm |= {"WORKERS": "1", "PREEMPT": str(tmp_path / "preempt"), "REQUEUED": str(tmp_path / "requeued")}
    slurm |= {"BRAINDINO": f"{sys.executable} {tmp_path / 'run_verb.py'}", "SAVED": f"{out}/checkpoints/0000001"}
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(TEMPLATE), str(plain), str(out)]
    for preempted in (True, False):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "requeued").exists() == preempted
        assert (len(curve(out)) < STEPS) == preempted
        (tmp_path / "requeued").unlink(missing_ok=True)
    assert_same_curve(curve(out), curve(folder / "one"))
