"""One whole training step, put together from the pure functions, against the reference implementation."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from braindino.model.config import ViTConfig
from braindino.model.projection import ProjectionHead
from braindino.pretraining.groups import parameter_groups, set_rates
from braindino.pretraining.losses import (
    crop_weights,
    dino_loss,
    gram_loss,
    ibot_loss,
    koleo_loss,
    patch_weights,
    resize_patches,
)
from braindino.pretraining.networks import update_teacher
from braindino.pretraining.targets import sinkhorn_knopp
from golden import TINY, close, fill, fill_model, filled_vit

GLOBAL, LOCAL = 2 * fill(6000, (6, 3, 16, 16)), 2 * fill(6001, (12, 3, 8, 8))
MASK = torch.zeros(6, 16, dtype=torch.bool)
for image, count in ((0, 1), (2, 5), (5, 8)):
    MASK[image, [(3 * t + image) % 16 for t in range(count)]] = True


def networks(config: ViTConfig, offset: int) -> nn.ModuleDict:
    heads = {"dino_head": ProjectionHead(32, 24, 8, 16), "ibot_head": ProjectionHead(32, 24, 8, 12)}
    for number, head in enumerate(heads.values()):
        fill_model(head, offset + 100 * (number + 1))
    return nn.ModuleDict({"backbone": filled_vit(config, offset), **heads})


def terms(student: nn.ModuleDict, teacher: nn.ModuleDict, config: ViTConfig) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        seen = teacher["backbone"](GLOBAL)
        cls_targets = sinkhorn_knopp(teacher["dino_head"](seen.cls), 0.05).view(2, 3, 16)
        patch_targets = sinkhorn_knopp(teacher["ibot_head"](seen.patch[MASK]), 0.05)
        anchor = resize_patches(filled_vit(config, 2000)(2 * fill(6002, (6, 3, 32, 32))).patch, (8, 8), (4, 4))
    wide, narrow = student["backbone"].train().forward_list([GLOBAL, LOCAL], [MASK, None])
    logits = student["dino_head"](torch.cat((wide.cls, narrow.cls)))
    return {
        "local": dino_loss(logits[6:].view(4, 3, 16), cls_targets),
        "global": dino_loss(logits[:6].view(2, 3, 16), cls_targets, ignore_diagonal=True),
        "koleo": torch.stack([koleo_loss(crop) for crop in wide.cls.view(2, 3, 32)]).mean(),
        "ibot": ibot_loss(student["ibot_head"](wide.patch[MASK]), patch_targets, patch_weights(MASK), 6),
        "gram": gram_loss(wide.patch, anchor),
    }


def total(values: dict[str, torch.Tensor], gram_weight: float) -> torch.Tensor:
    of_global, of_local = crop_weights(2, 4)
    dino = of_local * values["local"] + of_global * values["global"]
    return dino + 0.1 * 2 * values["koleo"] + values["ibot"] + gram_weight * values["gram"]


UNTIED = replace(TINY, untie_global_and_local_cls_norm=True)
STEPS = {
    "no Gram": (TINY, 0.0, [3.250513, 3.124596, 0.507531, 1.399607], 4.726443, [3.498209, 4.244390, 1.597115]),
    "Gram": (TINY, 2.0, [3.250513, 3.124596, 0.507531, 1.399607, 0.071825], 4.870092, [3.591920, 4.244390, 1.597115]),
    "untied": (UNTIED, 0.0, [3.151895, 3.185853, 0.446165, 1.461006], 4.708925, [2.823154, 3.661906, 2.184757]),
}


@pytest.mark.parametrize("name", STEPS)
def test_losses_and_gradients_of_a_step(name):
    config, gram_weight, expected, expected_total, norms = STEPS[name]
    student, teacher = networks(config, 0), networks(config, 1000)
    values = terms(student, teacher, config)
    close(torch.stack(list(values.values()))[: len(expected)], expected)
    loss = total(values, gram_weight)
    close(loss, expected_total)
    loss.backward()
    found = [torch.nn.utils.get_total_norm([p.grad for p in part.parameters() if p.grad is not None])
             for part in student.values()]  # fmt: skip
    close(torch.stack(found), norms, 2e-5)
    assert not student["backbone"].blocks[0].attn.qkv.bias.grad[32:64].any()


def test_update_of_student_and_teacher():
    student, teacher = networks(TINY, 0), networks(TINY, 1000)
    backbone = student["backbone"]
    before = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}
    groups = parameter_groups(student, 2, layer_decay=0.9, patch_multiplier=0.2)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    set_rates(optimizer.param_groups, 1e-3, 0.04)
    total(terms(student, teacher, TINY), 0.0).backward()
    for part in student.values():
        torch.nn.utils.clip_grad_norm_(part.parameters(), 0.5)
    optimizer.step()
    change = {name: parameter.detach() - before[name] for name, parameter in backbone.named_parameters()}
    close(change["cls_token"][0, 0, :3], [-0.0007263, 0.0007347, -0.0007346], 2e-7)
    close(change["patch_embed.proj.weight"].flatten()[:3], [-0.0001467, -0.0001464, -0.0001468], 2e-7)
    close(change["norm.bias"].abs(), [0.001] * 32, 2e-7)
    old = {name: parameter.detach().clone() for name, parameter in teacher.named_parameters()}
    update_teacher(teacher, student, 1.0)
    assert all(torch.equal(parameter, old[name]) for name, parameter in teacher.named_parameters())
    update_teacher(teacher, student, 0.99)
    moved = (teacher["backbone"].cls_token - old["backbone.cls_token"])[0, 0, :3]
    close(moved, [-0.0001689, -0.0010514, 0.0010619], 2e-7)
