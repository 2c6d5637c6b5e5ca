"""DINOv3 and MedDINOv3 as encoders: counts of keys, what is refused, the same vectors as transformers."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import DINOv3ViTConfig, DINOv3ViTModel

import foreign_layouts as layouts
from braindino import catalog
from braindino.model.foreign import read_foreign
from braindino.model.pixels import for_grey
from braindino.volume.preprocess import preprocess, to_slices
from golden import fill, fill_model

IMAGENET = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SIZES = {  # official keys: the count depends on blocks and feed-forward, not on the width
    "S and B": (188, {"depth": 12}),
    "S+": (212, {"depth": 12, "gated": True, "hidden": 88}),
    "L": (368, {"depth": 24}),
}
MED = {"depth": 12, "bias": False}
SMALL = {"spacing_mm": 4.0, "size_px": 48, "slices": 5}


def load(name, path, variant=""):
    return catalog.load("encoders", name).load(path, variant=variant)


def written(tmp_path, content, name="weights.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def of_one_head(**form):
    """64 wide, where all dialects tell the heads; periods not rounded, since transformers and timm store none."""
    return layouts.official(dim=64, **form) | {"rope_embed.periods": 100 ** (torch.arange(16) / 16)}


def shrunk(encoder):
    """On small pictures, that tests are quick; the rest of the recipe stays."""
    return replace(encoder, recipe=replace(encoder.recipe, **SMALL))


@pytest.mark.parametrize("size", SIZES)
def test_official_files_have_as_many_keys_as_published_and_all_are_used(tmp_path, size):
    count, form = SIZES[size]
    state = layouts.official(**form)
    assert len(state) == count
    path = written(tmp_path, state)
    report = read_foreign(path)[2]
    assert report.count("taken") + report.count("transformed") == count == len(report.lines)
    assert load("dinov3", path).dim == 32


def test_meddinov3_files_have_164_keys_and_what_no_file_says(tmp_path):
    state = layouts.official(**MED)
    assert len(state) == 164
    head = {"dino_head.last_layer.weight": torch.ones(4, 2)}
    flat = load("meddinov3", written(tmp_path, state, "flat.pth"))
    teacher = {"teacher": {f"backbone.{key}": value for key, value in state.items()} | head}
    wrapped = load("meddinov3", written(tmp_path, teacher, "teacher.pth"))
    assert flat.digest() == wrapped.digest()
    assert flat.model.config.norm_eps == 1e-6 and flat.model.config.rope_dtype == "bfloat16"
    assert {block.norm1.eps for block in flat.model.blocks} == {1e-6}


def test_each_file_has_its_encoder(tmp_path):
    with pytest.raises(ValueError, match="use --encoder meddinov3"):
        load("dinov3", written(tmp_path, layouts.official(bias=False)))
    for name, content in {"meta": of_one_head(), "timm": layouts.timm(of_one_head())}.items():
        with pytest.raises(ValueError, match=f"{name} weights.*use --encoder dinov3"):
            load("meddinov3", written(tmp_path, content))
    with pytest.raises(ValueError, match="satellite"):
        load("dinov3", written(tmp_path, layouts.official(local_norm=True), "vitl16_pretrain_sat493m.pth"))


@pytest.mark.parametrize("name, form", [("dinov3", {}), ("meddinov3", MED)])
def test_a_key_that_is_renamed_missing_or_reshaped_is_refused(tmp_path, name, form):
    good = layouts.official(**form)
    key = "blocks.1.mlp.fc2.bias"
    rest = {k: v for k, v in good.items() if k != key}
    for changed, said in (
        (rest, rf"missing: {key}"),
        (rest | {"blocks.1.mlp.fc3.bias": good[key]}, r"unexpected: blocks.1.mlp.fc3.bias"),
        (rest | {key: torch.ones(7)}, rf"wrong shape: {key}"),
    ):
        with pytest.raises(ValueError, match=said):
            load(name, written(tmp_path, changed))


@pytest.mark.parametrize("name", ["dinov3", "meddinov3"])
def test_no_weights_and_unknown_variants_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="needs --weights"):
        load(name, None)
    with pytest.raises(ValueError, match=r"unknown variant 'publishd'.*did you mean 'published'"):
        load(name, tmp_path / "weights.pth", "publishd")


@pytest.mark.parametrize("form", [{}, {"gated": True, "hidden": 88}], ids=["mlp", "swiglu"])
def test_three_dialects_are_one_encoder(tmp_path, volume, form):
    state = of_one_head(patch=8, **form)
    state["mask_token"] = torch.zeros(1, 64)
    save_file(layouts.hugging_face(state), tmp_path / "model.safetensors")
    paths = written(tmp_path, state), tmp_path / "model.safetensors", written(tmp_path, layouts.timm(state), "timm.pth")
    encoders = [shrunk(load("dinov3", path)) for path in paths]
    first, *others = [encoder.tokens(volume).cls for encoder in encoders]
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-6)


def theirs(path):
    settings = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = DINOv3ViTModel(DINOv3ViTConfig(**settings, patch_size=16, num_register_tokens=4)).eval()
    fill_model(model, 0)
    model.save_pretrained(path)
    return model


def pictures(volume, recipe, variant):
    """Grey slices as three equal channels, normalised by hand."""
    grey = to_slices(preprocess(volume, recipe).voxels)
    if variant == "paper":
        return np.repeat(grey, 3, axis=1)
    between_0_and_1 = ((np.repeat(grey, 3, axis=1) + 3) / 6).transpose(0, 2, 3, 1)
    assert between_0_and_1.min() == 0 and 0.6 < between_0_and_1.max() <= 1
    return ((between_0_and_1 - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("variant", ["published", "paper"])
def test_vectors_are_those_of_transformers_on_the_same_slices(tmp_path, volume, variant):
    model = theirs(tmp_path)
    encoder = shrunk(load("dinov3", tmp_path, variant))
    got = encoder.tokens(volume, patches=True)
    with torch.no_grad():
        answer = model(torch.from_numpy(pictures(volume, encoder.recipe, variant)))
    assert got.cls.shape == (5, 64) and got.patch.shape == (5, 9, 64) and got.grid == (3, 3)
    np.testing.assert_allclose(got.cls, answer.pooler_output, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got.patch, answer.last_hidden_state[:, 5:], rtol=0, atol=1e-4)
    assert got.cls.std(axis=0).max() > 0.01, "the slices differ"


def test_variants_differ_in_their_digest_and_the_default_is_the_published_one(tmp_path):
    path = written(tmp_path, layouts.official(patch=16))
    default, published, paper = (load("dinov3", path, variant) for variant in ("", "published", "paper"))
    assert (default.variant, published.variant, paper.variant) == ("published", "published", "paper")
    assert default.digest() == published.digest() != paper.digest()
    assert published.recipe.size_px == paper.recipe.size_px == 224
    assert (published.recipe.clip_percent, paper.recipe.clip_percent) == ((0.5, 99.5), (1, 99))
    of_dinov3 = paper.recipe
    path = written(tmp_path, layouts.official(patch=16, **MED))
    published, paper = (load("meddinov3", path, variant) for variant in ("published", "paper"))
    assert published.recipe.size_px == 256 and paper.recipe == of_dinov3
    assert published.recipe.background == pytest.approx(-5.983, abs=1e-3)


def test_pixels_by_hand():
    """One patch of 1 x 2 pixels, two channels: window -3 to 3, mean (0.5, 0), deviation (0.25, 1)."""
    kernel, bias = torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]]]), torch.tensor([7.0])
    made = for_grey(
        {"patch_embed.proj.weight": kernel, "patch_embed.proj.bias": bias}, (0.5, 0.0), (0.25, 1.0), (-3, 3)
    )
    grey = torch.tensor([[[[0.0, 3.0]]]])  # 0.5 and 1 in the window, so 0 and 2 in one channel, 0.5 and 1 in the other
    got = torch.nn.functional.conv2d(grey, made["patch_embed.proj.weight"], made["patch_embed.proj.bias"])
    assert got.item() == pytest.approx(1 * 0 + 2 * 2 + 3 * 0.5 + 5 * 1 + 7)


def test_weights_of_another_number_of_channels_are_refused(tmp_path):
    state = layouts.official() | {"patch_embed.proj.weight": fill(0, (32, 1, 4, 4))}
    with pytest.raises(ValueError, match="weights of 1 image channels, but statistics of 3"):
        load("dinov3", written(tmp_path, state))
