"""What a run starts from: weights of a file with new heads, learned before the backbone moves; its Gram teacher."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from braindino.config import read_config
from braindino.corpus.shards import open_corpus
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining.config import ComputeConfig, CropConfig, HeadConfig, LossConfig, OptimConfig, PretrainConfig
from braindino.pretraining.initial import gram_teacher, initial_network
from braindino.pretraining.schedules import schedules_of
from braindino.record import read_record
from corpora import heads_corpus
from test_config import CONFIGS

MODEL = ViTConfig(dim=64, depth=2, heads=1, patch_size=8, layer_scale=0.1)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initial")
    corpus = heads_corpus(folder, 4)
    small = HeadConfig(hidden=32, bottleneck=16, prototypes=64)
    return PretrainConfig(
        corpus=corpus.folder,
        steps=4,
        batch_size=4,
        model=MODEL,
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=small,
        ibot_head=small,
        optim=OptimConfig(warmup=0.25, freeze_backbone=0.5, freeze_last_layer=0.0),
        compute=ComputeConfig(checkpoint_every=2),
    )


def foreign(path, channels=3):
    """A random transformer under the names of DINOv3's own files, with three channels."""
    torch.manual_seed(5)
    model = VisionTransformer(replace(MODEL, in_channels=channels))
    torch.save({"teacher": {f"backbone.{name}": value for name, value in model.state_dict().items()}}, path)
    return model


def test_weights_of_others_start_all_three_networks_with_new_heads(tmp_path, config):
    model = foreign(tmp_path / "weights.pth")
    started = initial_network(replace(config, initial=tmp_path / "weights.pth"))
    fresh = initial_network(replace(config, initial=None))
    assert fresh is None
    kernel = model.patch_embed.proj.weight
    assert torch.allclose(started.backbone.patch_embed.proj.weight, kernel.sum(dim=1, keepdim=True), atol=1e-6)
    assert torch.equal(started.backbone.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)


def test_heads_learn_before_the_backbone_moves(tmp_path, config):
    """After half of the steps: the backbone of the start, but for its patch embedding; other heads."""
    foreign(tmp_path / "weights.pth")
    warm = replace(config, initial=tmp_path / "weights.pth")
    before = initial_network(warm).state_dict()
    pretrain(warm, tmp_path / "run")
    after = load_file(tmp_path / "run" / "checkpoints" / "0000002" / "state.safetensors")
    last = load_file(tmp_path / "run" / "checkpoints" / "0000004" / "state.safetensors")
    moved = {name for name, value in before.items() if not torch.equal(after[f"student.{name}"], value)}
    assert moved and not [name for name in moved if name.startswith("backbone.") and ".patch_embed." not in name]
    assert {name.partition(".")[0] for name in moved} == {"backbone", "dino_head", "ibot_head"}
    assert not torch.equal(last["student.backbone.blocks.0.mlp.fc1.weight"], before["backbone.blocks.0.mlp.fc1.weight"])


def test_an_encoder_of_this_package_starts_a_run_too(tmp_path, config):
    pretrain(replace(config, steps=1), tmp_path / "first")
    encoder = tmp_path / "first" / "encoder.safetensors"
    started = initial_network(replace(config, initial=encoder))
    expected = load_encoder(encoder)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in started.backbone.state_dict().items())


def test_what_cannot_start_a_run_is_refused(tmp_path, config):
    with pytest.raises(ValueError, match="does not exist"):
        pretrain(replace(config, initial=tmp_path / "nothing"), tmp_path / "run")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        pretrain(replace(config, initial=tmp_path / "other.safetensors"), tmp_path / "run")
    foreign(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"depth|blocks"):
        deeper = replace(config, model=replace(MODEL, depth=3))
        pretrain(replace(deeper, initial=tmp_path / "weights.pth"), tmp_path / "run")


def test_the_rate_of_the_backbone_rises_after_the_heads_had_their_time():
    schedules = schedules_of(read_config(CONFIGS / "warm_start.toml", PretrainConfig))
    shares = [schedules.backbone_share(step) for step in (0, 9_999, 10_000, 10_500, 11_000, 24_999)]
    assert shares == pytest.approx([0, 0, 0, 0.5, 1, 1])
    rates = [schedules.rate.value(step) for step in (1_000, 12_000, 24_999)]
    assert rates == pytest.approx([5e-5 * 4 * np.sqrt(0.5)] * 3)


@pytest.fixture(scope="module")
def stages(tmp_path_factory, config):
    """Stage 1 of four steps, its checkpoint at step 2, and the config of a stage 2 whose Gram teacher that is."""
    work = tmp_path_factory.mktemp("stages")
    pretrain(config, work / "one")
    shutil.copytree(work / "one" / "checkpoints" / "0000002", work / "early")
    shutil.rmtree(work / "one" / "checkpoints")
    return work, replace(config, initial=work / "one", gram_initial=work / "early", loss=LossConfig(gram=2.0))


def seen(run):
    return load_encoder(run / "encoder.safetensors")[1]["source"].get("seen")


def log(run):
    return (run / "log.jsonl").read_text()


def test_an_early_checkpoint_is_the_gram_teacher(stages):
    work, second = stages
    kept = load_file(work / "early" / "state.safetensors")
    anchor = gram_teacher(second).state_dict()
    assert all(torch.equal(value, kept[f"teacher.backbone.{name}"]) for name, value in anchor.items())
    assert gram_teacher(replace(second, gram_initial=None)) is None
    pretrain(second, work / "two")
    pretrain(replace(second, gram_initial=None), work / "plain")
    pretrain(replace(second, gram_initial=work / "one"), work / "same")
    by_file = gram_teacher(replace(second, gram_initial=work / "one" / "encoder.safetensors"))
    by_run = gram_teacher(replace(second, gram_initial=work / "one"))
    by_file, by_run = by_file.patch_embed.proj.weight, by_run.patch_embed.proj.weight
    assert torch.equal(by_file, by_run) and not torch.equal(by_run, anchor["patch_embed.proj.weight"])
    assert log(work / "same") == log(work / "plain") != log(work / "two")
    assert seen(work / "two") == seen(work / "plain") == seen(work / "one")
    assert set(read_record(work / "two")["parents"]) == {"corpus", "initial", "gram_initial"}


def test_the_gram_teacher_is_told_by_content(stages):
    """Moved, it is the same run, which is not trained again; another one in the same place is refused."""
    work, second = stages
    pretrain(second, work / "told")
    shutil.copytree(work / "early", work / "moved")
    untouched = (work / "told" / "record.json").stat().st_mtime_ns
    pretrain(replace(second, gram_initial=work / "moved"), work / "told")
    assert (work / "told" / "record.json").stat().st_mtime_ns == untouched
    with pytest.raises(ValueError, match="another config, corpus or initial"):
        pretrain(replace(second, gram_initial=work / "one"), work / "told")


def test_subjects_of_the_gram_teacher_are_told_or_unknown(stages, config):
    work, second = stages
    name = open_corpus(config.corpus).names[0]
    other = replace(config, exclude=(name,), steps=2)
    pretrain(other, work / "other")
    less = replace(second, exclude=(name,), initial=work / "other", steps=1)
    pretrain(replace(less, gram_initial=work / "one"), work / "by_run")
    pretrain(less, work / "by_checkpoint")
    assert len(seen(work / "other")) == 3 and seen(work / "by_run") == seen(work / "one")
    assert seen(work / "by_checkpoint") is None


def test_a_gram_teacher_that_cannot_be_is_refused(stages):
    work, second = stages
    with pytest.raises(ValueError, match=r"loss\.gram is 0"):
        replace(second, loss=LossConfig())
    with pytest.raises(ValueError, match=r"gram_initial .* does not exist"):
        pretrain(replace(second, gram_initial=work / "nothing"), work / "refused")
    with pytest.raises(ValueError, match="made by 'braindino checkpoint', expected one made by 'pretrain'"):
        pretrain(replace(second, initial=work / "early"), work / "refused")
    foreign(work / "weights.pth")
    deeper = replace(second, model=replace(MODEL, depth=3), initial=work / "weights.pth")
    for source in (work / "early", work / "one"):
        with pytest.raises(ValueError, match=r"\[model\] differs"):
            gram_teacher(replace(deeper, gram_initial=source))
    with pytest.raises(ValueError, match=r"does not fit \[model\]"):
        gram_teacher(replace(deeper, gram_initial=work / "one" / "encoder.safetensors"))
