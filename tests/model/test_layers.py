"""Initialisation, attention against torch's own, drop path by its expectation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from braindino.model.config import PRESETS, ViTConfig, preset
from braindino.model.layers import Attention, Mlp, QkvLinear, SwiGlu, add_residual, attend, initialise
from braindino.model.projection import ProjectionHead
from braindino.model.vit import VisionTransformer
from golden import TINY, fill, fill_model

ALL_PARTS = replace(
    TINY, ffn="swiglu", layer_scale=1e-3, untie_cls_and_patch_norms=True, untie_global_and_local_cls_norm=True
)


@pytest.mark.parametrize("config", [TINY, ALL_PARTS, replace(TINY, qkv_bias=False, layer_scale=None)])
def test_everything_is_initialised(config):
    state = VisionTransformer(config).state_dict()
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_a_forgotten_parameter_shows_as_nan():
    class Forgetful(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Parameter(torch.zeros(3))

    module = Forgetful()
    initialise(module)
    assert module.extra.isnan().all()


def test_values_after_initialisation():
    model = VisionTransformer(preset("tiny", depth=2), torch.Generator().manual_seed(0))
    state = model.state_dict()
    assert abs(state["blocks.1.mlp.fc1.weight"].std() - 0.02) < 2e-4
    assert abs(state["storage_tokens"].std() - 0.02) < 2e-3
    assert state["patch_embed.proj.weight"].abs().max() <= 1 / 16 and state["patch_embed.proj.bias"].std() > 0.03
    zeros = ("mask_token", "norm.bias", "blocks.0.attn.qkv.bias", "blocks.0.mlp.fc2.bias")
    assert all(not state[name].any() for name in zeros)
    assert (state["norm.weight"] == 1).all() and (state["blocks.0.ls2.gamma"] == 1e-5).all()
    mask = state["blocks.0.attn.qkv.bias_mask"].reshape(3, -1)
    assert (mask[0] == 1).all() and (mask[1] == 0).all() and (mask[2] == 1).all()


def test_initialisation_follows_its_generator_and_nothing_else():
    def build(seed: int) -> dict[str, torch.Tensor]:
        return VisionTransformer(TINY, torch.Generator().manual_seed(seed)).state_dict()

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["cls_token"], other["cls_token"])
    torch.manual_seed(7)
    one = VisionTransformer(TINY).state_dict()
    torch.manual_seed(7)
    two = VisionTransformer(TINY).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_attention_without_rotation_is_torchs_own():
    attention = Attention(replace(TINY, mask_k_bias=False))
    fill_model(attention, 0)
    x = fill(50, (2, 7, 32))
    still = torch.zeros(7, 16), torch.ones(7, 16)
    expected, _ = F.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3, 32, 2, attention.qkv.weight, attention.qkv.bias, None, None, False, 0.0,
        attention.proj.weight, attention.proj.bias, need_weights=False,
    )  # fmt: skip
    torch.testing.assert_close(attention(x, still), expected.transpose(0, 1))


def test_key_bias_is_a_no_op_without_rotation_only():
    attention = Attention(replace(TINY, mask_k_bias=False))
    fill_model(attention, 0)
    x, angles = fill(50, (1, 7, 32)), 6 * fill(51, (7, 8)).tile(2)
    still, turned = (torch.zeros(7, 16), torch.ones(7, 16)), (angles.sin(), angles.cos())
    before = attention(x, still), attention(x, turned)
    with torch.no_grad():
        attention.qkv.bias[32:64] += 1.0
    assert (attention(x, still) - before[0]).abs().max() < 1e-6
    assert (attention(x, turned) - before[1]).abs().max() > 1e-3


def test_masked_key_bias_has_no_effect_and_no_gradient():
    linear = QkvLinear(8)
    initialise(linear)
    linear.bias.data.fill_(1.0)
    out = linear(torch.zeros(1, 8))
    assert out.reshape(3, 8).mean(1).tolist() == [1, 0, 1]
    out.sum().backward()
    assert linear.bias.grad.reshape(3, 8).mean(1).tolist() == [1, 0, 1]


def test_feed_forward_by_hand():
    """One channel: fc2(GELU(fc1 x)) and w3(SiLU(w1 x) * w2 x) at x = 1."""
    mlp, swiglu = Mlp(1, 1), SwiGlu(1, 1)
    for module, weights in ((mlp, (1.0, 3.0)), (swiglu, (1.0, 2.0, 3.0))):
        initialise(module)
        for layer, weight in zip(module.children(), weights, strict=True):
            layer.weight.data.fill_(weight)
    assert mlp(torch.ones(1, 1)).item() == pytest.approx(3 * 0.8413447)
    assert swiglu(torch.ones(1, 1)).item() == pytest.approx(3 * 0.7310586 * 2)


@pytest.mark.parametrize(("batch", "rate", "kept"), [(4, 0.5, 2), (2, 0.3, 1), (2, 0.9, 1)])
def test_drop_path_doubles_some_residuals_and_skips_others(batch, rate, kept):
    x = torch.arange(batch).float().view(batch, 1, 1).expand(batch, 3, 2)
    torch.manual_seed(0)
    runs = torch.stack([add_residual(x, lambda part: part + 1, rate) - x for _ in range(4000)])
    ratio = (runs / (x + 1))[:, :, 0, 0]
    assert set(ratio.unique().tolist()) == {0.0, batch / kept}
    assert ((ratio > 0).sum(1) == kept).all()
    assert (ratio.mean(0) - 1).abs().max() < 0.1, "the expectation is that without drop path"


def test_rescaled_positions_are_drawn_per_block_in_training():
    model = VisionTransformer(replace(TINY, rope_rescale=2.0, depth=3))
    calls = []
    model.rope_embed.register_forward_hook(lambda module, args, result: calls.append(result[0]))
    images = fill(60, (1, 3, 8, 8))
    model.train()(images)
    assert len(calls) == 3 and not torch.equal(calls[0], calls[1])
    calls.clear()
    model.eval()(images)
    assert len(calls) == 1


def test_attention_in_bfloat16_is_attention():
    queries, keys, values = (8 * fill(n, (3, 2, 7, 16)) for n in range(3))
    whole = F.scaled_dot_product_attention(queries, keys, values)
    with torch.inference_mode():
        found = attend(*(x.bfloat16() for x in (queries, keys, values)))
        one = attend(queries[:, :, :1].bfloat16(), keys.bfloat16(), values.bfloat16())
        assert torch.equal(attend(queries, keys, values), whole)
    assert found.dtype == torch.bfloat16 and (found.float() - whole).abs().max() < 0.1 < whole.std()
    torch.testing.assert_close(one, found[:, :, :1])


def test_projection_head_matches_the_reference():
    head = ProjectionHead(32, 24, 8, 16)
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert list(head.state_dict()) == [
        *(f"mlp.{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")),
        "last_layer.weight",
    ]
    fill_model(head, 0)
    tokens = 2 * fill(2000, (3, 32))
    expected = [-0.490368, -0.370442, 0.027470, 0.235303, -0.368105, -0.210740, 0.026567, -0.620945]
    torch.testing.assert_close(
        torch.nn.functional.normalize(head.mlp(tokens), dim=-1)[0].detach(), torch.tensor(expected), atol=1e-6, rtol=0
    )
    logits = head(tokens).detach()
    expected = [-0.009808, -0.180560, -0.077270, 0.098973, 0.089392, 0.052010]
    torch.testing.assert_close(logits[0, :6], torch.tensor(expected), atol=1e-6, rtol=0)
    assert logits.sum().item() == pytest.approx(0.232905, abs=1e-5)


def test_hidden_widths():
    assert PRESETS["small_plus"].hidden == 1536 and PRESETS["huge_plus"].hidden == 5120 and PRESETS["7b"].hidden == 8192
    assert replace(TINY, ffn="swiglu").hidden == 88 and replace(TINY, ffn="swiglu128").hidden == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 100}, "multiple of 4 x heads"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"storage_tokens": -1}, "storage_tokens"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"rope_rescale": 1.0}, "rope_rescale must be greater than 1"),
        ({"layer_scale": 0.0}, "layer_scale must be greater than 0"),
        ({"norm_eps": float("nan")}, "norm_eps"),
    ],
)
def test_impossible_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**changes)


def test_unknown_size_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'large'"):
        preset("lage")
