"""What a run starts from: weights of a file with new heads, learned before the backbone moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from braindino.config import read_config
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining.config import ComputeConfig, CropConfig, HeadConfig, OptimConfig, PretrainConfig
from braindino.pretraining.initial import initial_network
from braindino.pretraining.schedules import schedules_of
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
