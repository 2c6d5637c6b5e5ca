"""Encoders as Hugging Face folders: the same encoder comes back, transformers opens it too, damage is refused."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json
from dataclasses import replace

import pytest
import torch
from transformers import DINOv3ViTModel

import braindino as bd
from braindino.model.pretrained import from_pretrained, save_pretrained
from braindino.model.slice_encoder import SliceEncoder
from braindino.volume.recipe import Recipe
from golden import TINY, fill, filled_vit

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=6)


def encoder(**changes):
    config = replace(TINY, **({"in_channels": 1} | changes))
    return SliceEncoder("braindino", filled_vit(config), RECIPE)


@pytest.mark.parametrize("changes", [{}, {"ffn": "swiglu"}, {"mask_k_bias": False}, {"storage_tokens": 0}])
def test_the_same_encoder_comes_back_and_transformers_opens_it(tmp_path, changes, volume):
    before = encoder(**changes)
    folder = save_pretrained(before, tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    back = from_pretrained(folder)
    assert back.recipe == RECIPE and back.name == "braindino" and back.model.config == before.model.config
    assert torch.equal(torch.from_numpy(back.tokens(volume).cls), torch.from_numpy(before.tokens(volume).cls))
    their, told = DINOv3ViTModel.from_pretrained(folder, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    images = fill(3, (2, 1, 48, 48))
    with torch.no_grad():
        torch.testing.assert_close(their.eval()(images).pooler_output, before.model(images).cls, rtol=0, atol=1e-5)
    card = (folder / "README.md").read_text()
    assert "6 slices of 48 x 48 px at 4 mm" in card and back.digest() in card and "DINOv3ViTModel" in card


def test_the_digest_stays_so_that_heads_stay_valid(tmp_path, weights):
    before = bd.load_encoder("braindino", weights)
    folder = bd.save_pretrained(before, tmp_path / "model")
    assert bd.from_pretrained(folder).digest() == before.digest()
    assert bd.load_encoder("braindino", folder).digest() == before.digest()
    brain = bd.load_encoder("braindino", weights, variant="brain")
    assert bd.load_encoder("braindino", folder, variant="brain").digest() == brain.digest()


@pytest.mark.parametrize("changes", [
    {"untie_cls_and_patch_norms": True}, {"rope_normalize": "max"}, {"layer_scale": None, "rope_dtype": "bfloat16"},
])  # fmt: skip
def test_what_transformers_has_not_keeps_our_names(tmp_path, changes, volume):
    before = encoder(**changes)
    folder = save_pretrained(before, tmp_path)
    back = from_pretrained(folder)
    assert back.digest() == before.digest() and back.model.config == before.model.config
    assert json.loads((folder / "config.json").read_text())["model_type"] == "braindino_vit"
    assert "transformers" not in (folder / "README.md").read_text()


def test_the_norm_of_local_crops_is_left_out(tmp_path, volume):
    before = encoder(untie_global_and_local_cls_norm=True)
    back = from_pretrained(save_pretrained(before, tmp_path))
    assert not back.model.config.untie_global_and_local_cls_norm and back.digest() != before.digest()
    assert (back.tokens(volume).cls == before.tokens(volume).cls).all()


def test_writing_twice_gives_the_same_bytes(tmp_path):
    one, two = (save_pretrained(encoder(), tmp_path / name) for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_damage_and_strangers_are_refused(tmp_path):
    folder = save_pretrained(encoder(), tmp_path / "model")
    weights, config = (folder / "model.safetensors").read_bytes(), (folder / "config.json").read_text()
    (folder / "model.safetensors").write_bytes(weights[:-2] + bytes([weights[-2] ^ 1]) + weights[-1:])
    with pytest.raises(ValueError, match="differ from their digest"):
        from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(weights)
    for text, message in (
        ("{", "was not written by save_pretrained"),
        ('{"model_type": "dinov3_vit"}', "go through read_foreign"),
        (config.replace('"depth": 2', '"depth": 4'), "does not fit"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            from_pretrained(folder)
    with pytest.raises(ValueError, match="download it first"):
        from_pretrained("facebook/dinov3-vits16-pretrain-lvd1689m")
    with pytest.raises(ValueError, match="slice-wise encoders"):
        save_pretrained(Whole(), tmp_path)


class Whole:
    """An encoder of whole volumes."""

    name, dim, recipe = "whole", 4, RECIPE

    def tokens(self, volume, *, patches=False, every_slice=False): ...

    def digest(self): ...
