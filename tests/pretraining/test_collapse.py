"""Each safeguard switched off shows in its monitor: healthy and collapsed runs lie far apart, with every seed."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from braindino.pretraining import step, watch
from braindino.pretraining.batches import Batches, training_subjects
from braindino.pretraining.loop import train
from braindino.pretraining.ranks import Ranks

SEEDS = (0, 1, 2)
LN_K = math.log(64)


def unbalanced(logits, temperature, **_):
    """A softmax alone: neither Sinkhorn-Knopp nor centring."""
    return (logits.float() / temperature).softmax(dim=1)


def ending(corpus, config, folder):
    """Monitors of a run, medians of the last ten steps."""
    train(config, Batches(corpus, config, training_subjects(corpus, config)), folder, None, Ranks(), lambda *_: None)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {name: float(np.median([entry[name] for entry in log[-10:]])) for name in log[-1]}


@pytest.fixture(scope="module")
def endings(phantoms, small_run, tmp_path_factory):
    """Name of the safeguard that is off, to the endings with each seed."""
    short = replace(small_run, steps=30)
    runs = {
        "none": short,
        "balancing": short,
        "temperature": replace(short, teacher=replace(small_run.teacher, temperature=(1.0, 1.0))),
        "koleo": replace(short, loss=replace(small_run.loss, koleo=0.0)),
    }
    found = {}
    for name, config in runs.items():
        with pytest.MonkeyPatch.context() as patch:
            if name == "balancing":
                patch.setattr(step, "sinkhorn_knopp", unbalanced)
            found[name] = [ending(phantoms, replace(config, seed=n), tmp_path_factory.mktemp(name)) for n in SEEDS]
    return found


def values(endings, off, monitor):
    return np.array([one[monitor] for one in endings[off]])


def test_a_healthy_run_is_within_all_limits(endings):
    assert (values(endings, "none", "cls_cosine") < 0.5).all()
    assert (values(endings, "none", "effective_rank") > 4).all()
    assert (values(endings, "none", "prototypes_used") > 10).all()
    assert (values(endings, "none", "mean_target_entropy") > 0.95 * LN_K).all()


def test_without_balancing_all_slices_get_one_target(endings):
    assert (values(endings, "balancing", "prototypes_used") == 1).all()
    assert (values(endings, "balancing", "mean_target_entropy") < 0.05 * LN_K).all()
    assert (values(endings, "balancing", "patch_mean_target_entropy") < 0.05 * LN_K).all()
    assert (values(endings, "balancing", "total") < values(endings, "none", "total")).all()  # the loss tells nothing


def test_a_hot_teacher_says_nothing(endings):
    hot, healthy = (
        values(endings, off, "mean_target_entropy") - values(endings, off, "target_entropy")
        for off in ("temperature", "none")
    )
    assert (values(endings, "temperature", "target_entropy") > 0.999 * LN_K).all()
    assert healthy.min() > 20 * hot.max()


def test_without_koleo_cls_tokens_are_alike(endings):
    assert (values(endings, "koleo", "cls_cosine") > 0.9).all()
    assert values(endings, "koleo", "effective_rank").max() < 0.85 * values(endings, "none", "effective_rank").min()


def test_a_collapsed_run_says_so_once(phantoms, small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "sinkhorn_knopp", unbalanced)
    monkeypatch.setattr(watch, "PATIENCE", 10)
    ending(phantoms, replace(small_run, steps=40), tmp_path)
    assert capsys.readouterr().err.count("all targets choose one prototype") == 1
