"""Rates per parameter: every name of a backbone and of a head, by hand."""

from dataclasses import replace

import pytest
import torch

from braindino.model.projection import ProjectionHead
from braindino.model.vit import VisionTransformer
from braindino.pretraining.groups import parameter_groups, scaled_rate, set_rates
from golden import TINY


def backbone():
    return VisionTransformer(replace(TINY, untie_global_and_local_cls_norm=True))


def rates(module):
    groups = parameter_groups(module, 2, layer_decay=0.9, patch_multiplier=0.2)
    rounded = [(group["names"], round(group["rate_multiplier"], 6), group["decay_multiplier"]) for group in groups]
    return groups, {name: (rate, decay) for names, rate, decay in rounded for name in names}


def test_backbone():
    groups, by_name = rates(backbone())
    assert len(groups) == 8 and not any(group["last_layer"] for group in groups)
    expected = {
        "cls_token": (0.729, 1),
        "storage_tokens": (0.729, 1),
        "mask_token": (0.729, 1),
        "patch_embed.proj.weight": (0.1458, 1),
        "patch_embed.proj.bias": (0.1458, 0),
        "norm.weight": (1, 0),
        "norm.bias": (1, 0),
        "local_cls_norm.weight": (1, 0),
        "local_cls_norm.bias": (1, 0),
    }
    for block, multiplier in ((0, 0.81), (1, 0.9)):
        for name in ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"):
            expected[f"blocks.{block}.{name}"] = (multiplier, 1)
            expected[f"blocks.{block}.{name.replace('weight', 'bias')}"] = (multiplier, 0)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            expected[f"blocks.{block}.{name}"] = (multiplier, 0)
    assert by_name == expected


def test_head_and_a_module_that_holds_both():
    head = ProjectionHead(32, 8, 4, 6)
    groups, by_name = rates(head)
    assert [group["names"] for group in groups if group["last_layer"]] == [["last_layer.weight"]]
    assert (
        by_name["last_layer.weight"] == (1, 1) and by_name["mlp.0.weight"] == (1, 1) and by_name["mlp.4.bias"] == (1, 0)
    )
    _, both = rates(torch.nn.ModuleDict({"backbone": backbone(), "dino_head": head}))
    assert both["backbone.blocks.0.mlp.fc1.weight"] == (0.81, 1)
    assert both["backbone.cls_token"] == (0.729, 1) and both["backbone.patch_embed.proj.bias"] == (0.1458, 0)
    assert both["dino_head.last_layer.weight"] == (1, 1)


def test_every_parameter_once_and_frozen_ones_never():
    model = backbone()
    model.mask_token.requires_grad_(False)
    groups, _ = rates(model)
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(p) for p in model.parameters() if p is not model.mask_token)


def test_rates_are_written_into_the_optimizer():
    head = ProjectionHead(32, 8, 4, 6)
    optimizer = torch.optim.AdamW(parameter_groups(head, 2))
    set_rates(optimizer.param_groups, 0.5, 0.04, freeze_last_layer=True)
    before = head.last_layer.weight.clone(), head.mlp[0].weight.clone()
    head(torch.ones(2, 32)).square().sum().backward()
    optimizer.step()
    assert torch.equal(head.last_layer.weight, before[0]) and not torch.equal(head.mlp[0].weight, before[1])
    set_rates(optimizer.param_groups, 0.5, 0.04)
    found = {group["names"][0]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {"mlp.0.weight": (0.5, 0.04), "mlp.0.bias": (0.5, 0), "last_layer.weight": (0.5, 0.04)}


@pytest.mark.parametrize(
    ("base", "batch", "rule", "expected"),
    [
        (1e-3, 2048, "sqrt_1024", 5.656854e-3),
        (5e-5, 4096, "sqrt_1024", 4e-4),
        (1e-3, 256, "sqrt_1024", 2e-3),
        (5e-4, 1024, "linear_256", 2e-3),
    ],
)
def test_scaled_rate(base, batch, rule, expected):
    assert scaled_rate(base, batch, rule) == pytest.approx(expected, rel=1e-6)
