"""The transformer against known numbers of the reference implementation, and its invariants."""

from dataclasses import replace

import pytest
import torch

from braindino.model.config import preset
from braindino.model.vit import VisionTransformer
from golden import TINY, close, fill, fill_model, filled_vit

X = 2 * fill(1000, (2, 3, 16, 24))
PATCH_MASK = ((7 * torch.arange(24)[None] + 3 * torch.arange(2)[:, None]) % 5) == 0


def test_fill_is_the_agreed_one():
    close(fill(0, (5,)), [-0.27463955, 0.07750092, 0.39847386, 0.15120645, 0.41083676], 1e-8)
    close(fill(7, (5,)), [-0.37842035, 0.32042006, -0.27485934, -0.49018201, -0.16801956], 1e-8)
    assert len(list(filled_vit().parameters())) == 35


CASES = {
    "base": (
        {},
        [-0.570841, -1.973728, -0.095597, -1.497180],
        [1.258999, -1.657918, -0.381237, -2.535245],
        0.838883,
    ),
    "key bias": (
        {"mask_k_bias": False},
        [-0.603597, -1.963916, -0.105409, -1.471143],
        [1.252163, -1.666596, -0.400061, -2.548348],
        0.838602,
    ),
    "RoPE in bfloat16": (
        {"rope_dtype": "bfloat16"},
        [-0.571570, -1.974086, -0.095814, -1.497402],
        [1.258003, -1.658091, -0.380069, -2.536142],
        0.838887,
    ),
    "swiglu": (
        {"ffn": "swiglu"},
        [-0.588115, 1.845097, -0.263386, -0.842601],
        [-0.972693, 1.124262, 0.449182, 1.889380],
        0.808976,
    ),
    "untied norms": (
        {"untie_cls_and_patch_norms": True},
        [0.807822, -1.474469, 0.467900, -1.956919],
        [-0.450202, -2.676987, -0.217109, -1.128615],
        0.825099,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_forward_matches_the_reference(case):
    changes, cls, patch, mean = CASES[case]
    output = filled_vit(replace(TINY, **changes))(X)
    close(output.cls[0, :4], cls)
    close(output.patch[0, 0, :4], patch)
    close(output.patch.abs().mean(), mean)


def test_all_kinds_of_tokens_match_the_reference():
    output = filled_vit()(X)
    assert output.cls.shape == (2, 32) and output.storage.shape == (2, 2, 32) and output.patch.shape == (2, 24, 32)
    close(output.cls[1, :4], [-0.087710, -1.746906, -0.575705, -1.614108])
    close(output.storage[0, 1, :4], [-0.085349, -2.166070, -0.848202, -0.915298])
    close(output.patch[1, 23, :4], [0.387235, -0.019069, 0.889378, -0.504041])


def test_masked_forward_matches_the_reference():
    assert PATCH_MASK.sum(1).tolist() == [5, 5]
    output = filled_vit()(X, PATCH_MASK)
    close(output.cls[0, :4], [-0.698820, -2.014613, -0.334108, -1.236931])
    close(output.patch[0, 0, :4], [-1.175816, -1.664057, 0.036020, -1.547327])
    close(output.patch.abs().mean(), 0.838192)


def test_masked_pixels_are_not_seen():
    model, changed = filled_vit(), X.clone()
    changed[0, :, :4, :4] += 5.0
    assert PATCH_MASK[0, 0]
    torch.testing.assert_close(model(X, PATCH_MASK).cls, model(changed, PATCH_MASK).cls)
    assert (model(X).cls - model(changed).cls).abs().max() > 1e-3


def test_parts_match_the_reference():
    model = filled_vit()
    grid = model.patch_embed(X)
    close(grid[0, 0, 0, :4], [0.079150, 0.132493, 0.449958, -0.285526])
    close(grid[1, 3, 5, :4], [-0.834844, -0.191929, 0.940306, 0.014106])
    tokens = torch.cat(
        (model.cls_token.expand(2, -1, -1), model.storage_tokens.expand(2, -1, -1), grid.flatten(1, 2)), 1
    )
    rope, block = model.rope_embed((4, 6)), model.blocks[0]
    attended = block.attn(block.norm1(tokens), rope)
    close(attended[0, 0, :4], [0.091341, 0.270570, 0.164756, 0.258819])
    close(attended[1, 25, :4], [0.319103, 0.316053, 0.170781, 0.217207])
    out = block(tokens, rope)
    close(out[0, 0, :4], [-0.053204, -0.338496, 0.092489, -0.541864])
    close(out[1, 25, :4], [1.927272, -0.650986, -0.625365, -0.754277])


def test_intermediate_outputs():
    model = filled_vit()
    first, last = model.intermediate(X, 2)
    close(first.cls[0, :4], [-0.313230, -0.749811, 0.150248, -1.160186])
    assert torch.equal(last.cls, model(X).cls) and torch.equal(last.patch, model(X).patch)
    again = model.intermediate(X, [1, 0])
    assert torch.equal(again[0].cls, last.cls) and torch.equal(again[1].cls, first.cls)


@pytest.mark.parametrize("blocks", [0, 3, [2], [-1], []])
def test_unknown_blocks_are_refused(blocks):
    with pytest.raises(ValueError, match=r"blocks must lie in 0 \.\. 1"):
        filled_vit().intermediate(X, blocks)


def test_local_norm_matches_the_reference():
    model = filled_vit(replace(TINY, untie_global_and_local_cls_norm=True))
    local = 2 * fill(1001, (4, 3, 8, 8))
    close(model.forward_list([X, local], [PATCH_MASK, None])[1].cls[0, :4], [0.450735, 0.123160, -1.271871, -0.086857])
    model.train()
    output, output_local = model.forward_list([X, local], [PATCH_MASK, None])
    close(output.cls[0, :4], [0.731314, -1.325955, -0.832228, -1.086476])
    close(output_local.cls[0, :4], [0.128084, 0.225179, -1.176651, -0.238550])
    close(output_local.patch[0, 0, :4], [-0.307914, -0.119885, -0.774214, -0.927122])


def test_list_forward_is_separate_forwards():
    model, local = filled_vit(), 2 * fill(1001, (4, 3, 8, 8))
    first, second = model.forward_list([X, local], [PATCH_MASK, None])
    assert torch.equal(first.patch, model(X, PATCH_MASK).patch)
    assert torch.equal(second.cls, model(local).cls)


def test_images_of_a_batch_do_not_see_each_other():
    model = filled_vit()
    torch.testing.assert_close(model(X).cls[1:], model(X[1:]).cls)


def test_drop_path_matches_the_reference_draws():
    model = filled_vit(replace(TINY, drop_path=0.5)).train()
    torch.manual_seed(0)
    cls = model(2 * fill(1002, (4, 3, 16, 24))).cls[:, :2]
    close(
        cls.flatten(),
        [-0.339186, -1.815996, -0.612791, -0.545977, 0.071223, -0.397213, -0.129643, -0.397359],
    )


def test_small_at_full_size_matches_the_reference():
    model = VisionTransformer(preset("small", in_channels=3)).eval()
    fill_model(model, 0, wide=True)
    with torch.no_grad():
        output = model(2 * fill(1000, (1, 3, 224, 224)))
    close(output.cls[0, :5], [-0.339382, 1.225814, 1.551120, -1.926961, 1.051274])
    close(output.patch[0, 0, :5], [-0.053372, 0.582651, 0.820340, -1.919915, 1.035278])
    close(output.patch[0, 195, :5], [-0.455173, 0.232883, 0.945112, -1.957988, 1.265050])
    close(output.patch.abs().mean(), 0.789945)


SIZES = {
    "tiny": (5_492_160, 188),  # ours; the others are the published ones
    "small": (21_601_152, 188),
    "small_plus": (28_697_472, 212),
    "base": (85_669_632, 188),
    "large": (303_154_176, 368),
    "large_plus": (403_915_776, 416),
    "huge_plus": (840_633_600, 552),
    "7b": (6_716_043_264, 610),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name):
    with torch.device("meta"):
        model = VisionTransformer(preset(name, in_channels=3))
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == SIZES[name]


def test_names_and_shapes_are_the_official_ones():
    with torch.device("meta"):
        state = VisionTransformer(preset("base", in_channels=3)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("blocks.")}
    assert shapes == {
        "cls_token": (1, 1, 768),
        "storage_tokens": (1, 4, 768),
        "mask_token": (1, 768),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "patch_embed.proj.bias": (768,),
        "rope_embed.periods": (16,),
        "norm.weight": (768,),
        "norm.bias": (768,),
    }
    block = {name[10:]: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("blocks.11.")}
    assert block == {
        "norm1.weight": (768,),
        "norm1.bias": (768,),
        "attn.qkv.weight": (2304, 768),
        "attn.qkv.bias": (2304,),
        "attn.qkv.bias_mask": (2304,),
        "attn.proj.weight": (768, 768),
        "attn.proj.bias": (768,),
        "ls1.gamma": (768,),
        "norm2.weight": (768,),
        "norm2.bias": (768,),
        "mlp.fc1.weight": (3072, 768),
        "mlp.fc1.bias": (3072,),
        "mlp.fc2.weight": (768, 3072),
        "mlp.fc2.bias": (768,),
        "ls2.gamma": (768,),
    }


def test_no_storage_tokens_and_no_layer_scale():
    model = filled_vit(replace(TINY, storage_tokens=0, layer_scale=None, qkv_bias=False))
    output = model(X)
    assert output.storage.shape == (2, 0, 32) and output.patch.shape == (2, 24, 32)
    assert not any("storage" in name or "gamma" in name or "qkv.bias" in name for name in model.state_dict())


def test_bfloat16_autocast_stays_near():
    model = filled_vit()
    with torch.autocast("cpu", torch.bfloat16):
        cls = model(X, PATCH_MASK).cls
    assert (cls.float() - model(X, PATCH_MASK).cls).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(2, 1, 16, 24), (2, 3, 18, 24), (2, 3, 16, 25), (2, 3, 0, 24)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must be \(batch, 3, multiple of 4, multiple of 4\)"):
        filled_vit()(torch.zeros(shape))


def test_a_patch_mask_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"patch_mask must be \(2, 24\), got \(2, 23\)"):
        filled_vit()(X, PATCH_MASK[:, 1:])
