"""Weights in the layouts of others: every key accounted for, the same tokens, and no silent gap."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

import braindino
import foreign_layouts as layouts
from braindino.config import to_dict
from braindino.model.config import PRESETS, ViTConfig, preset
from braindino.model.foreign import read_foreign
from braindino.model.hugging_face import rename
from braindino.model.shapes import name_of
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder, save_encoder
from braindino.volume.recipe import Recipe
from golden import TINY, fill, filled_vit

X = 2 * fill(1000, (2, 3, 16, 24))
HEADS = {"dino_head.last_layer.weight": torch.ones(4, 2), "ibot_head.mlp.0.bias": torch.ones(3)}


def written(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def model_of(state, config):
    with torch.device("meta"):
        model = VisionTransformer(config)
    model.load_state_dict(state, assign=True)
    assert all(not tensor.is_meta and tensor.isfinite().all() for tensor in model.state_dict().values())
    return model.eval()


def tokens(path, **asked):
    state, config, report = read_foreign(path, **asked)
    output = model_of(state, config)(X)
    assert not report.problems
    return torch.cat((output.cls[:, None], output.storage, output.patch), 1), config, report


def tell(path, **asked):
    with pytest.raises(ValueError, match=path.name) as error:
        read_foreign(path, **asked)
    return str(error.value)


CONFIG = ViTConfig(dim=32, depth=2, heads=2, patch_size=4, in_channels=3)
"""What `layouts.official()` is."""


def test_official_weights_are_taken_as_they_are(tmp_path):
    state = layouts.official()
    got, config, report = tokens(written(tmp_path, state))
    assert config == CONFIG and report.dialect == "meta" and report.prefix == ""
    assert report.count("taken") == len(state) - 2 and report.count("transformed") == 2  # the two masks
    assert report.assumed == ("norm_eps 1e-05", "RoPE in float32")
    output = model_of(state, CONFIG)(X)
    assert torch.equal(got[:, 0], output.cls) and torch.equal(got[:, 5:], output.patch)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dialect", ["hugging_face", "timm"])
def test_other_names_give_the_official_tokens(tmp_path, dialect, gated):
    state = layouts.official(gated=gated, hidden=88 if gated else 128)
    count = 4
    state["rope_embed.periods"] = 100 ** (torch.arange(count) / count)  # neither of the two stores rounded periods
    expected, config, _ = tokens(written(tmp_path, state))
    other = getattr(layouts, dialect)(state)
    save_file(other, tmp_path / "other.safetensors")
    got, same, report = tokens(tmp_path / "other.safetensors", config=config)
    assert same == config and report.dialect == dialect
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert report.count("taken") + report.count("transformed") == len(other)
    computed = {line.key: line.note for line in report.lines if line.status == "computed"}
    buffers = {"rope_embed.periods", "blocks.0.attn.qkv.bias_mask", "blocks.1.attn.qkv.bias_mask"}
    assert set(computed) == buffers | ({"mask_token"} if dialect == "timm" else set())


STRUCTURES = {
    "S and B": ({"depth": 12}, 188, 211, {True: 186, False: 162}, 164),
    "S+": ({"depth": 12, "gated": True}, 212, 235, {True: 210, False: 186}, 188),
    "L": ({"depth": 24}, 368, 415, {True: 366, False: 318}, 320),
    "H+": ({"depth": 32, "gated": True}, 552, 615, {True: 550, False: 486}, 488),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_numbers_of_keys_are_the_published_ones(tmp_path, name):
    """188, 211, 162 and 186 for B, 164 without biases, 212, 368, 552 were counted on the originals."""
    changes, meta, transformers, of_timm, plain = STRUCTURES[name]
    for bias, expected in ((True, meta), (False, plain)):
        state = layouts.official(hidden=32, bias=bias, **changes)
        files = {"meta" if bias else "meddinov3": state, "timm": layouts.timm(state)}
        counts = {"meta" if bias else "meddinov3": expected, "timm": of_timm[bias]}
        if bias:
            files["hugging_face"], counts["hugging_face"] = layouts.hugging_face(state), transformers
        for dialect, content in files.items():
            _, config, report = read_foreign(
                written(tmp_path, content), ViTConfig(32, changes["depth"], 2, 4, 3, 1.5, "swiglu", qkv_bias=bias)
                if "gated" in changes else ViTConfig(32, changes["depth"], 2, 4, 3, 1.0, qkv_bias=bias)
            )  # fmt: skip
            assert (report.dialect, len(content)) == (dialect, counts[dialect])
            assert report.count("taken") + report.count("transformed") == len(content)
            assert config.depth == changes["depth"]


def test_seven_billion_has_no_bias_and_a_local_norm(tmp_path):
    """Its head dimension is 128; 610 keys, of which 608 are those of 40 blocks without bias."""
    state = layouts.official(depth=40, gated=True, hidden=32, bias=False, local_norm=True)
    assert len(state) == 610
    _, config, report = read_foreign(written(tmp_path, state))
    assert config.untie_global_and_local_cls_norm and not config.qkv_bias and report.count("taken") == 610
    _, _, without = read_foreign(written(tmp_path, state), ViTConfig(32, 40, 2, 4, 3, 1.5, "swiglu", qkv_bias=False))
    assert [line.key for line in without.lines if line.status == "ignored"] == [
        "local_cls_norm.weight",
        "local_cls_norm.bias",
    ]


@pytest.mark.parametrize("wrap", [
    lambda state: {"teacher": {f"backbone.{k}": v for k, v in state.items()} | HEADS},
    lambda state: {f"teacher.backbone.{k}": v for k, v in state.items()}
                  | {"student.backbone.cls_token": torch.ones(2)},
    lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3},
    lambda state: {"state_dict": {f"_orig_mod.{k}": v for k, v in state.items()}, "optimizer": {"state": {0: {}}}},
    lambda state: {k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in state.items()},
    lambda state: {"model": {f"teacher.backbone.{k}": v for k, v in state.items()}
                   | {f"gram_teacher.backbone.{k}": v + 1 for k, v in state.items()}},
])  # fmt: skip
def test_wrapped_and_prefixed_files(tmp_path, wrap):
    state = layouts.official()
    expected, _, _ = tokens(written(tmp_path, state))
    got, config, report = tokens(written(tmp_path, wrap(state)))
    assert torch.equal(got, expected) and config == CONFIG
    for line in report.lines:
        if line.status == "ignored":
            assert line.note == "no tensor" or line.note == f"not under {report.prefix}"


@pytest.mark.parametrize("content", [
    lambda state: {f"{who}.{k}": v for who in ("student", "ema") for k, v in state.items()},
    lambda state: {f"{who}.{k}": v for who in ("a.teacher", "b.teacher") for k, v in state.items()},
])  # fmt: skip
def test_which_of_several_backbones_is_not_guessed(tmp_path, content):
    assert "several backbones" in tell(written(tmp_path, content(layouts.official())))


def test_teacher_files_without_biases_are_of_the_kind_of_meddinov3(tmp_path):
    """The layout of MedDINOv3 and of the BrainDINO paper: teacher, backbone., heads beside it."""
    state = layouts.official(bias=False)
    content = {"teacher": {f"backbone.{k}": v for k, v in state.items()} | HEADS}
    _, config, report = tokens(written(tmp_path, content))
    assert (config.norm_eps, config.rope_dtype, config.qkv_bias) == (1e-6, "bfloat16", False)
    assert report.dialect == "meddinov3" and report.count("ignored") == len(HEADS)
    assert report.assumed == ("norm_eps 1e-06", "RoPE in bfloat16")
    assert "ignored 2: not under teacher.backbone." in report.short()
    assert report.short() in str(report) and "taken: cls_token" in str(report)
    with_bias, config, report = read_foreign(tmp_path / "weights.pth", preset("base", **{
        "dim": 32, "depth": 2, "heads": 2, "patch_size": 4, "in_channels": 3}))  # fmt: skip
    assert not with_bias["blocks.1.attn.qkv.bias"].any() and config.qkv_bias
    assert {line.note for line in report.lines if line.status == "computed"} == {
        "zeros, since the file has none",
        "from the config",
    }
    x, plain = fill(5, (1, 3, 8, 8)), read_foreign(tmp_path / "weights.pth", ViTConfig(32, 2, 2, 4, 3, qkv_bias=False))
    assert torch.equal(model_of(with_bias, config)(x).cls, model_of(*plain[:2])(x).cls)


def test_periods_are_kept_where_stored_and_held_against_the_base(tmp_path):
    state = layouts.official()
    kept, _, _ = read_foreign(written(tmp_path, state))
    assert kept["rope_embed.periods"].tolist() == [1, 3.15625, 10, 31.625]
    rounded, _, _ = read_foreign(
        written(tmp_path, state | {"rope_embed.periods": state["rope_embed.periods"].bfloat16()})
    )
    assert torch.equal(rounded["rope_embed.periods"], kept["rope_embed.periods"])
    state["rope_embed.periods"] = 50 ** (torch.arange(4) / 4)
    assert "wrong value: rope_embed.periods (other periods than those of rope_base 100)" in tell(
        written(tmp_path, state)
    )


def test_the_mask_of_the_key_bias_is_set_even_where_the_file_never_did(tmp_path):
    state = layouts.official()
    state["blocks.0.attn.qkv.bias_mask"].fill_(float("nan"))
    got, _, _ = read_foreign(written(tmp_path, state))
    assert got["blocks.0.attn.qkv.bias_mask"].reshape(3, 32).mean(1).tolist() == [1, 0, 1]
    state["blocks.0.attn.qkv.bias_mask"] = torch.ones(96)
    assert "masks something else than the keys" in tell(written(tmp_path, state))


def test_an_unmasked_key_bias_is_seen(tmp_path):
    state = {k: v for k, v in layouts.official().items() if not k.endswith("bias_mask")}
    expected, config, _ = tokens(written(tmp_path, state))
    assert not config.mask_k_bias
    other = layouts.hugging_face(state)
    for i in range(2):
        other[f"layer.{i}.attention.k_proj.bias"] = state[f"blocks.{i}.attn.qkv.bias"][32:64]
    got, _, _ = tokens(written(tmp_path, other), config=config)
    assert (got - expected).abs().max() < 0.02  # periods in full instead of rounded
    assert "k_proj.bias" in tell(tmp_path / "weights.pth", config=CONFIG)


@pytest.mark.parametrize("layout", ["official", "hugging_face", "timm"])
def test_no_key_may_be_missing(tmp_path, layout):
    state = layouts.official()
    content = state if layout == "official" else getattr(layouts, layout)(state)
    for key in content:
        left = {name: tensor for name, tensor in content.items() if name != key}
        message = tell(written(tmp_path, left), config=CONFIG)
        gone = f"missing: {key}" in message
        assert gone or key in ("cls_token", "embeddings.cls_token", "blocks.0.gamma_1", "blocks.0.attn.qkv.weight"), key


def test_all_problems_are_told_at_once(tmp_path):
    state = layouts.official()
    del state["norm.bias"]
    state["pos_embed"] = torch.ones(1, 3, 32)
    state["blocks.1.mlp.fc1.weight"] = torch.ones(64, 32)
    state["blocks.0.ls1.gamma"][3] = float("nan")
    state["blocks.0.ls2.gamma"] = torch.ones(32, dtype=torch.int64)
    state["norm.weight"] = torch.ones(1).expand(32)
    message = tell(written(tmp_path, state))
    for line in (
        "missing: norm.bias (for norm.bias (32,))",
        "unexpected: pos_embed ((1, 3, 32))",
        "wrong shape: blocks.1.mlp.fc1.weight ((64, 32), expected (128, 32))",
        "wrong value: blocks.0.ls1.gamma (NaN or infinite)",
        "wrong value: blocks.0.ls2.gamma (torch.int64",
        "wrong value: norm.weight (repeated from fewer numbers than its shape says)",
    ):
        assert line in message, message


def test_a_long_list_of_problems_is_cut(tmp_path):
    message = tell(written(tmp_path, layouts.official() | {f"extra.{n}": torch.ones(1) for n in range(50)}))
    assert "and 30 more problems" in message and message.count("unexpected") == 20


def test_half_precision_becomes_float32_and_says_so(tmp_path):
    state = {name: tensor.half() for name, tensor in layouts.official().items()}
    got, _, report = read_foreign(written(tmp_path, state))
    assert {tensor.dtype for tensor in got.values()} == {torch.float32}
    assert torch.equal(got["norm.bias"], state["norm.bias"].float())
    assert any(line.note == "torch.float16 as float32" for line in report.lines)


def test_parameters_with_gradients_become_plain_tensors(tmp_path):
    state = {name: torch.nn.Parameter(tensor) for name, tensor in layouts.official().items()}
    got, _, _ = read_foreign(written(tmp_path, state))
    assert all(type(tensor) is torch.Tensor and not tensor.requires_grad for tensor in got.values())


def test_no_two_weights_share_memory(tmp_path):
    state = layouts.official()
    state["blocks.1.ls1.gamma"] = state["blocks.0.ls1.gamma"]
    state["norm.bias"] = state["patch_embed.proj.weight"].reshape(-1)[:32]
    got, _, _ = read_foreign(written(tmp_path, state))
    assert len({tensor.untyped_storage().data_ptr() for tensor in got.values()}) == len(got)


@pytest.mark.parametrize("wanted", [1, 3, 5])
def test_channels_are_changed_on_request_only(tmp_path, wanted):
    """A grey picture repeated in all channels gives the same tokens."""
    path = written(tmp_path, layouts.official())
    grey = fill(9, (2, 1, 16, 24))
    state, config, _ = read_foreign(path)
    changed, other, report = read_foreign(path, in_channels=wanted)
    assert other.in_channels == wanted and changed["patch_embed.proj.weight"].shape[1] == wanted
    before = model_of(state, config)(grey.expand(-1, 3, -1, -1)).cls
    torch.testing.assert_close(model_of(changed, other)(grey.expand(-1, wanted, -1, -1)).cls, before)
    back, _, _ = read_foreign(written(tmp_path, changed, "back.pth"), in_channels=3)
    torch.testing.assert_close(model_of(back, config)(grey.expand(-1, 3, -1, -1)).cls, before)
    note = [line.note for line in report.lines if line.key == "patch_embed.proj.weight"]
    assert note == ["" if wanted == 3 else f"3 channels summed into {wanted}"]
    if wanted != 3:
        assert "in_channels sums or spreads them" in tell(path, config=other)


@pytest.mark.parametrize("dialect", ["hugging_face", "timm", "meta"])
@pytest.mark.parametrize("gated", [False, True])
def test_round_trip_loses_the_masked_key_bias_and_timms_mask_token_only(tmp_path, dialect, gated):
    before = layouts.official(gated=gated, hidden=64)
    path = written(tmp_path, before)
    state, config, _ = read_foreign(path)
    model = model_of(state, config)
    other = rename(model, dialect)
    if dialect != "meta":
        by_hand = getattr(layouts, dialect)(before)
        assert set(other) == set(by_hand) and all(torch.equal(other[name], by_hand[name]) for name in other)
    after, _, _ = read_foreign(written(tmp_path, other, "other.pth"), config)
    for name, tensor in before.items():
        if dialect != "meta" and name.endswith("qkv.bias"):
            assert torch.equal(after[name][:32], tensor[:32]) and torch.equal(after[name][64:], tensor[64:])
            assert not after[name][32:64].any()
        elif dialect == "timm" and name == "mask_token":
            assert not after[name].any()
        elif dialect != "meta" and name == "rope_embed.periods":
            torch.testing.assert_close(after[name], tensor, rtol=2**-8, atol=0)
        else:
            assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize(("content", "message"), [
    ({}, "no key is, or ends in, cls_token"),
    ({"a": torch.ones(1)}, "got a"),
    ([torch.ones(1)], "holds a list, expected a dict of tensors"),
    (torch.ones(1), "holds a Tensor"),
    ({"cls_token": torch.ones(1, 1, 32)}, "no blocks.0.attn.qkv.weight"),
    ({"embeddings.cls_token": torch.ones(1, 1, 32)}, "give a config"),
    ({"cls_token": torch.ones(1, 1, 30), "blocks.0.attn.qkv.weight": torch.ones(90, 30),
      "patch_embed.proj.weight": torch.ones(30, 3, 4, 4), "blocks.0.mlp.fc1.weight": torch.ones(60, 30)},
     "number of heads cannot be told"),
    ({"cls_token": torch.ones(()), "blocks.0.attn.qkv.weight": torch.ones(())}, "size cannot be told"),
    ({"x.cls_token": torch.ones(2), "module.x.cls_token": torch.ones(2), "x._orig_mod.cls_token": torch.ones(2)},
     "occurs twice"),
])  # fmt: skip
def test_what_is_no_dinov3(tmp_path, content, message):
    assert message in tell(written(tmp_path, content))


def test_a_released_file_is_held_against_the_hash_in_its_name(tmp_path):
    path = written(tmp_path, layouts.official())
    tag = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    good = path.rename(tmp_path / f"dinov3_vits16_pretrain_lvd1689m-{tag}.pth")
    read_foreign(good)
    bad = good.rename(tmp_path / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth")
    assert "does not begin with the 08c60483 of its name" in tell(bad)


def test_encoders_of_this_package_are_read_by_load_encoder(tmp_path):
    save_encoder(tmp_path / "encoder.safetensors", filled_vit(TINY), {}, {})
    assert "load_encoder" in tell(tmp_path / "encoder.safetensors")


def test_weights_of_others_become_an_encoder_of_this_package(tmp_path):
    """As in docs/model.md: read, put into the model, save with the recipe of the input."""
    state, config, report = braindino.read_foreign(written(tmp_path, layouts.official()), in_channels=1)
    model = VisionTransformer(config)
    model.load_state_dict(state)
    save_encoder(tmp_path / "encoder.safetensors", model, to_dict(Recipe()), {"from": report.dialect})
    loaded, _ = load_encoder(tmp_path / "encoder.safetensors")
    x = fill(3, (1, 1, 8, 12))
    assert torch.equal(loaded(x).patch, model_of(state, config)(x).patch)


def test_sizes_have_names():
    assert [name_of(config) for config in PRESETS.values()] == list(PRESETS)
    assert name_of(TINY) == "dim 32, depth 2, heads 2, hidden 128, patch_size 4"
