"""CLS tokens alone, and without patches of background."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer, in_bfloat16
from braindino.volume.recipe import Recipe
from golden import TINY, fill, fill_model, filled_vit

KINDS = {
    "mlp": {},
    "swiglu, no bias": {"ffn": "swiglu", "qkv_bias": False},
    "key bias, untied": {"mask_k_bias": False, "untie_cls_and_patch_norms": True},
    "no storage, no scale": {"storage_tokens": 0, "layer_scale": None},
    "one block": {"depth": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_cls_tokens_alone_are_those_of_the_whole(kind):
    model = filled_vit(replace(TINY, **KINDS[kind])).eval()
    images = fill(5, (3, TINY.in_channels, 16, 24))
    with torch.no_grad():
        whole = model(images).cls
        torch.testing.assert_close(model.cls(images), whole, rtol=0, atol=1e-5)
        every = torch.ones(4 * 6, dtype=torch.bool)
        torch.testing.assert_close(model.cls(images, every), whole, rtol=0, atol=1e-5)
        assert (model.cls(images, every & (torch.arange(24) > 3)) - whole).abs().max() > 1e-4
    with pytest.raises(ValueError, match="call eval"):
        model.train().cls(images)


def test_patches_left_out_keep_no_influence_and_the_others_their_places():
    model = filled_vit(replace(TINY, in_channels=1)).eval()
    images, kept = fill(5, (2, 1, 16, 24)), torch.arange(24) % 3 != 0
    changed = images.clone()
    for patch in torch.nonzero(~kept)[:, 0].tolist():
        row, column = 4 * (patch // 6), 4 * (patch % 6)
        changed[:, :, row : row + 4, column : column + 4] = 7.0
    with torch.no_grad():
        assert torch.equal(model.cls(images, kept), model.cls(changed, kept))
        moved = model.cls(images.roll(4, -1), kept.reshape(4, 6).roll(1, 1).flatten())
    assert not torch.allclose(moved, model.cls(images, kept), atol=1e-5)


def structured(model):
    """Matrices of a wide model, and one channel that is far larger than the others, as trained transformers have."""
    fill_model(model, 0, wide=True)
    with torch.no_grad():
        model.blocks[0].mlp.fc2.bias[3] = 50.0


@pytest.mark.parametrize("weights", ["random", "structured"])
def test_the_variant_bf16_is_near_the_exact_encoder_and_another(weights, volume):
    config = replace(TINY, in_channels=1, patch_size=8, layer_scale=1.0, depth=4)
    model = VisionTransformer(config, torch.Generator().manual_seed(0))
    if weights == "structured":
        structured(model)
    exact = SliceEncoder("x", model, Recipe(spacing_mm=4.0, size_px=64, slices=12))
    wide, before = replace(exact, variant="bf16"), exact.digest()
    one, other = exact.tokens(volume, patches=True), wide.tokens(volume, patches=True)
    for kind in ("cls", "patch", "storage"):
        a, b = (getattr(tokens, kind).reshape(-1, config.dim) for tokens in (one, other))
        assert b.dtype == np.float32 and not np.array_equal(a, b)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.999, kind
    alone = wide.tokens(volume).cls
    assert np.array_equal(alone, replace(exact, variant="bf16").tokens(volume).cls)
    assert np.abs(alone - other.cls).max() < 0.1
    assert exact.digest() == before != wide.digest() and model.norm.weight.dtype == torch.float32


def test_only_linear_layers_hold_bfloat16():
    model = filled_vit(replace(TINY, ffn="swiglu"))
    state, found = model.state_dict(), in_bfloat16(model)
    rounded = {name for name, tensor in found.state_dict().items() if tensor.dtype == torch.bfloat16}
    assert {name.split(".")[-2] for name in rounded} == {"qkv", "proj", "w1", "w2", "w3"}
    assert not any("patch_embed" in name for name in rounded) and not found.training
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype))


def test_the_variant_brain_leaves_out_background(volume):
    model = VisionTransformer(
        replace(TINY, in_channels=1, patch_size=8, layer_scale=1.0), torch.Generator().manual_seed(0)
    )
    exact = SliceEncoder("x", model, Recipe(spacing_mm=4.0, size_px=64, slices=12))
    brain = replace(exact, variant="brain")
    one, other = exact.tokens(volume), brain.tokens(volume)
    cosine = (one.cls * other.cls).sum(1) / np.linalg.norm(one.cls, axis=1) / np.linalg.norm(other.cls, axis=1)
    assert cosine.min() > 0.5 and cosine.max() < 1 - 1e-5 and exact.digest() != brain.digest()
    tight = replace(brain, recipe=replace(exact.recipe, size_px=16))  # brain everywhere: nothing is left out
    same = replace(tight, variant="exact")
    middle = slice(3, 8)
    assert np.allclose(tight.tokens(volume).cls[middle], same.tokens(volume).cls[middle], atol=1e-5)
    with pytest.raises(ValueError, match="gives CLS tokens only"):
        brain.tokens(volume, patches=True)
    with pytest.raises(ValueError, match="variant is 'skull', expected exact, bf16, brain"):
        replace(exact, variant="skull")
