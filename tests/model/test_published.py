"""Published layouts are read strictly: every key has a reason, or the file is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import volume_layouts as layouts
from braindino import catalog
from braindino.model.published import Layout, load_published, named, prefix_of
from braindino.model.resnet3d import ResNet3d
from braindino.model.volume_vit import JointViT, VolumeViT

SMALL = Layout("small", r"conv\.weight", 7, ((r"(projection\w*|decoder)(\..*)?", "a head"),))


class Small(nn.Module):
    """Every kind of entry: matrices, statistics, a counter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 2)
        self.norm = nn.BatchNorm3d(4)


def content(prefix="", **changes):
    state = Small().state_dict() | changes
    return {prefix + key: value for key, value in state.items() if value is not None}


def load(given, prefix=""):
    with torch.device("meta"):
        network = Small()
    return network, load_published(Path("file.pth"), given, prefix, network, SMALL)


@pytest.mark.parametrize(
    ("shapes", "make", "keys", "millions"),
    [
        (layouts.brainiac_v2(), VolumeViT, 137, 88.34),
        (layouts.brainiac_v1(), ResNet3d, 322, 46.16),
        (layouts.bm_mae(), lambda: JointViT(("t1", "t1ce", "t2", "flair")), 159, 70.89),
        (layouts.bm_mae(("t1", "flair")), lambda: JointViT(("t1", "flair")), 153, 63.81),
    ],
)
def test_our_networks_have_the_keys_and_shapes_of_the_tables(shapes, make, keys, millions):
    with torch.device("meta"):
        network = make()
    state = network.state_dict()
    assert len(shapes) == keys
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == millions
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


@pytest.mark.parametrize("prefix", ["", "state_dict.", "state_dict.backbone.", "module.", "model.backbone.backbone."])
def test_what_wrappers_put_before_the_names_is_found(prefix):
    given = content(prefix)
    assert prefix_of(given, SMALL) == prefix
    network, report = load(given, prefix)
    assert report.count("taken") == 7 and not report.problems
    assert torch.equal(network.conv.weight, given[f"{prefix}conv.weight"])
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_another_network_is_none_and_two_are_too_many():
    assert prefix_of({"other.weight": torch.zeros(1)}, SMALL) is None
    assert prefix_of({"student.conv.weight": torch.zeros(1)}, SMALL) is None
    with pytest.raises(ValueError, match=r"several networks, under 'backbone\.', 'encoder\.'"):
        prefix_of(content("backbone.") | content("encoder."), SMALL)
    with pytest.raises(ValueError, match="two keys are one"):
        named({"conv.weight": torch.zeros(1), "_orig_mod.conv.weight": torch.zeros(1)})


def test_heads_and_the_state_of_a_training_run_are_left_out_by_name():
    state = content("state_dict.backbone.", **{"projection_head.0.weight": torch.zeros(2, 2)})
    beside = {"state_dict.projector.weight": torch.zeros(2), "epoch": 3, "optimizer.state.0.exp_avg": torch.zeros(2)}
    _, report = load(state | beside, "state_dict.backbone.")
    assert report.count("taken") == 7 and report.count("ignored") == 4
    assert "2: not under state_dict.backbone." not in report.short() and "3: not under" in report.short()
    _, flat = load(content(**{"decoder.0.weight": torch.zeros(2)}) | {"optimizer.state.0.exp_avg": torch.zeros(2)})
    assert [line.note for line in flat.lines if line.status == "ignored"] == ["a head", "state of a training run"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv.weight": None, "conv.wieght": torch.zeros(4, 1, 2, 2, 2)},
            r"(?s)missing: conv\.weight.*unexpected: conv\.wi",
        ),
        ({"norm.running_var": None}, r"missing: norm\.running_var"),
        ({"conv.bias": torch.zeros(5)}, r"wrong shape: conv\.bias \(\(5,\), expected \(4,\)\)"),
        ({"conv.bias": torch.full((4,), torch.nan)}, r"wrong value: conv\.bias \(NaN or infinite\)"),
        ({"conv.bias": torch.zeros(4, dtype=torch.int64)}, "wrong value: conv.bias .*int64"),
        ({"conv.bias": [0.0] * 4}, r"wrong value: conv\.bias \(a list"),
        ({"conv.bias": torch.zeros(1).expand(4)}, "fewer numbers than its shape says"),
        ({"norm.num_batches_tracked": torch.tensor(1.0)}, r"num_batches_tracked \(torch\.float32, expected"),
        ({"extra.weight": torch.zeros(3)}, r"unexpected: extra\.weight \(\(3,\)\)"),
    ],
)
def test_anything_unexplained_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        load(content(**changes))


BRAINIAC, BM_MAE = catalog.load("encoders", "brainiac"), catalog.load("encoders", "bm_mae")


@pytest.mark.parametrize(
    ("shapes", "make", "layout", "key"),
    [
        (layouts.brainiac_v2(), VolumeViT, BRAINIAC.V2, "blocks.7.attn.qkv.weight"),
        (layouts.brainiac_v1(), ResNet3d, BRAINIAC.V1, "layer3.0.downsample.0.bias"),
        (layouts.bm_mae(("t1",)), lambda: JointViT(("t1",)), BM_MAE.layout_of(1), "blocks.7.attn.qkv.bias"),
    ],
)
def test_one_key_renamed_missing_or_reshaped_in_a_published_layout(shapes, make, layout, key):
    whole = {name: torch.zeros(shape) for name, shape in shapes.items() if not name.endswith("tracked")}
    whole |= {name: torch.tensor(1) for name in shapes if name.endswith("tracked")}
    less = {name: value for name, value in whole.items() if name != key}
    escaped = key.replace(".", r"\.")
    for given, message in [
        (less, f"missing: {escaped}"),
        (less | {f"{key}s": whole[key]}, f"(?s)missing: {escaped}.*unexpected: {escaped}s"),
        (whole | {key: whole[key][1:]}, f"wrong shape: {escaped} "),
    ]:
        with torch.device("meta"):
            network = make()
        with pytest.raises(ValueError, match=message):
            load_published(Path("file.pth"), given, "", network, layout)


@pytest.mark.parametrize("layout", [BRAINIAC.V2, BM_MAE.layout_of(4)])
def test_cross_attention_that_monai_adds_may_be_there(layout):
    added = {f"blocks.11.{part}": torch.zeros(4, 4) for part in ("cross_attn.to_q.weight", "norm_cross_attn.bias")}
    with torch.device("meta"):
        network = Small()
    report = load_published(Path("file.pth"), content() | added, "", network, replace(SMALL, ignored=layout.ignored))
    assert report.count("taken") == 7 and report.count("ignored") == 2
    assert "2: cross-attention that MONAI owns and never uses" in report.short()


def test_lower_precision_is_told():
    network, report = load(content(**{"conv.bias": torch.full((4,), 0.5, dtype=torch.float16)}))
    assert report.count("transformed") == 1 and network.conv.bias.dtype == torch.float32
