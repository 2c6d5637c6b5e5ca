"""The same tokens as transformers' DINOv3ViTModel, from its files and back into them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from braindino.model.config import ViTConfig, preset
from braindino.model.foreign import read_foreign
from braindino.model.hugging_face import export_hugging_face
from braindino.model.vit import VisionTransformer
from braindino.model.weights import save_encoder
from golden import TINY, fill, fill_model, filled_vit

SIZES = {
    "mlp": {},
    "swiglu": {"use_gated_mlp": True, "hidden_act": "silu", "intermediate_size": 88},
    "no bias, 128 wide heads": {"hidden_size": 256, "num_attention_heads": 2, "query_bias": False, "value_bias": False},
    "key bias": {"key_bias": True},
    "one channel, no register": {"num_channels": 1, "num_register_tokens": 0},
    "other base and epsilon": {"rope_theta": 50.0, "layer_norm_eps": 1e-6},
}
GRIDS = ((4, 6), (7, 3), (1, 1))


def transformer(**changes):
    settings = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "patch_size": 4, "num_register_tokens": 4,
    }  # fmt: skip
    model = DINOv3ViTModel(DINOv3ViTConfig(**(settings | changes))).eval()
    fill_model(model, 0)
    return model


def ours(path, **asked):
    state, config, report = read_foreign(path, **asked)
    with torch.device("meta"):
        model = VisionTransformer(config)
    model.load_state_dict(state, assign=True)
    return model.eval(), report


@torch.no_grad()
def same_tokens(their, model, shape, tolerance=1e-5, patch_mask=None):
    """Both in float64, so that only formulas can differ; then ours in float32, where products round as they will."""
    images = 2 * fill(77, shape)
    answer = deepcopy(their).double()(images.double(), bool_masked_pos=patch_mask)
    output = deepcopy(model).double()(images.double(), patch_mask)
    got = torch.cat((output.cls[:, None], output.storage, output.patch), 1)
    torch.testing.assert_close(got, answer.last_hidden_state, rtol=0, atol=tolerance)
    torch.testing.assert_close(output.cls, answer.pooler_output, rtol=0, atol=tolerance)
    torch.testing.assert_close(model(images, patch_mask).cls.double(), output.cls, rtol=0, atol=5e-5)


@pytest.mark.parametrize("size", SIZES)
def test_tokens_are_those_of_transformers(tmp_path, size):
    their = transformer(**SIZES[size])
    their.save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        model, report = ours(path)
        assert report.dialect == "hugging_face" and report.assumed == ()
    channels = their.config.num_channels
    for rows, columns in GRIDS:
        same_tokens(their, model, (2, channels, 4 * rows, 4 * columns))
    same_tokens(their, model, (2, channels, 16, 24), patch_mask=torch.arange(48).reshape(2, 24) % 5 == 0)


def test_small_at_full_size_and_wide_pictures(tmp_path):
    """ViT-S/16 in its released shape, without config.json: heads, epsilon and base as in the released models."""
    their = DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4)).eval()
    fill_model(their, 0, wide=True)
    their.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    model, report = ours(tmp_path)
    assert replace(model.config, in_channels=1) == preset("small") and report.size == "small"
    assert len(report.lines) == 211 + 13  # keys of the file; mask of each block and periods
    same_tokens(their, model, (1, 3, 224, 160))


def test_live_state_dicts_and_base_prefixes(tmp_path):
    their = transformer()
    live = {f"dinov3_vit.{key}": tensor for key, tensor in their.state_dict().items()}
    assert "dinov3_vit.model.layer.0.norm1.weight" in live
    torch.save({"state_dict": live | {"classifier.weight": torch.ones(2, 64)}}, tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(json.dumps(their.config.to_dict(), default=str))
    model, report = ours(tmp_path / "weights.pth")
    assert report.prefix == "state_dict.dinov3_vit." and report.count("ignored") == 1
    same_tokens(their, model, (1, 3, 8, 12))


def test_files_in_several_parts(tmp_path):
    their = transformer()
    their.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1 and not (tmp_path / "model.safetensors").exists()
    model, _ = ours(tmp_path)
    same_tokens(their, model, (1, 3, 8, 12))
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ValueError, match="no file of weights"):
        read_foreign(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"norm.bias": "../weights.safetensors"}}')
    with pytest.raises(ValueError, match="names of files in the same folder"):
        read_foreign(tmp_path)


EXPORTED = {
    "mlp": {},
    "swiglu, one channel": {"ffn": "swiglu", "in_channels": 1},
    "key bias": {"mask_k_bias": False},
    "no bias, no storage": {"qkv_bias": False, "storage_tokens": 0},
    "local norm": {"untie_global_and_local_cls_norm": True, "rope_jitter": 1.5, "rope_shift": 0.1, "drop_path": 0.2},
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_encoders_open_in_transformers_and_come_back(tmp_path, name):
    before = filled_vit(replace(TINY, **EXPORTED[name]))
    save_encoder(tmp_path / "encoder.safetensors", before, {"name": "grey"}, {"steps": 3})
    folder = export_hugging_face(tmp_path / "encoder.safetensors", tmp_path / "exported")
    their, told = DINOv3ViTModel.from_pretrained(folder, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    same_tokens(their.eval(), before, (2, before.config.in_channels, 16, 24))
    assert their.config.braindino["recipe"] == {"name": "grey"}
    back, _ = ours(folder)
    lost = {"untie_global_and_local_cls_norm": False, "layer_scale": 1e-5}
    assert replace(back.config, ffn="mlp") == replace(before.config, ffn="mlp", mlp_ratio=back.config.mlp_ratio, **lost)
    for key, tensor in back.state_dict().items():
        old = before.state_dict()[key]
        if key.endswith("qkv.bias") and before.config.mask_k_bias:
            old = old * before.state_dict()[f"{key}_mask"]
        assert torch.equal(tensor, old), key


@pytest.mark.parametrize(("changes", "message"), [
    ({"untie_cls_and_patch_norms": True}, "untie_cls_and_patch_norms True"),
    ({"rope_normalize": "max"}, "rope_normalize max"),
    ({"rope_periods": (1.0, 9.0)}, "rope_periods"),
    ({"rope_dtype": "bfloat16", "layer_scale": None}, "rope_dtype bfloat16, layer_scale None"),
])  # fmt: skip
def test_what_transformers_cannot_compute_is_not_exported(tmp_path, changes, message):
    save_encoder(tmp_path / "encoder.safetensors", filled_vit(replace(TINY, **changes)), {}, {})
    with pytest.raises(ValueError, match=message):
        export_hugging_face(tmp_path / "encoder.safetensors", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("[1]", "must hold a JSON object"),
    ("{", "is not JSON"),
    ('{"model_type": "vit"}', "model_type 'vit', expected dinov3_vit"),
    ('{"hidden_act": "relu"}', "hidden_act 'relu', expected gelu or silu"),
    ('{"num_attention_heads": "4"}', "'heads' must be of type int"),
    ('{"num_attention_heads": 5}', "multiple of 4 x heads"),
    ('{"num_attention_heads": 4, "num_hidden_layers": 12}', "has num_hidden_layers 12, the weights 3"),
    ('{"num_attention_heads": 4, "intermediate_size": 64}', "has intermediate_size 64, the weights 128"),
])  # fmt: skip
def test_a_wrong_config_beside_the_weights(tmp_path, text, message):
    transformer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_foreign(tmp_path)


def test_a_config_that_does_not_fit_the_weights(tmp_path):
    transformer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"wrong shape: layer.0.norm1.bias \(\(64,\), expected \(32,\)\)"):
        read_foreign(tmp_path, ViTConfig(dim=32, depth=3, heads=2, patch_size=4, in_channels=3))
