"""The loss of one step: DINO + iBOT + KoLeo or SIGReg (+ Gram), over passes and ranks as over one large batch.

A step's batch is cut into passes (`compute.micro_batch`) and shared by ranks. Targets are balanced over all of it at
once, every other term is a mean over samples, so the mean over passes and ranks is the value of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from braindino.model.vit import VisionTransformer
from braindino.pretraining.config import LossConfig
from braindino.pretraining.losses import (
    crop_weights,
    dino_loss,
    gram_loss,
    ibot_loss,
    koleo_loss,
    patch_weights,
    resize_patches,
    sigreg_loss,
)
from braindino.pretraining.networks import Batch, Seen
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.targets import centred_softmax, sinkhorn_knopp, update_centre


@dataclass(frozen=True)
class Temperatures:
    """Sharpness of the softmax of teacher and student at a step."""

    teacher: float
    student: float


@dataclass(frozen=True)
class Centres:
    """Running means of the teacher's logits, for `centring = "ema"`."""

    dino: Float32[Tensor, " prototype"]
    ibot: Float32[Tensor, " patch_prototype"]


@dataclass(frozen=True)
class Targets:
    """What the student of one pass is asked to predict: probabilities of prototypes."""

    cls: Float[Tensor, "crop prototype"]
    """Of the two global crops of each sample, crop-major."""
    patch: Float[Tensor, "hidden patch_prototype"]
    """Of the hidden patches."""


@torch.no_grad()
def teacher_targets(
    teacher: nn.Module,
    passes: Sequence[Batch],
    config: LossConfig,
    temperature: float,
    ranks: Ranks,
    centres: Centres | None = None,
) -> list[Targets]:
    """Targets of each pass, balanced over all passes of all ranks together.

    The teacher sees the global crops whole. With `centres` these are subtracted instead, and then moved on.
    """
    seen = [teacher([batch.global_crops], [None], batch.patch_masks) for batch in passes]
    cls, patch = torch.cat([s.cls_logits for s in seen]), torch.cat([s.patch_logits for s in seen])
    if centres is None:
        rounds = config.sinkhorn_iterations
        both = [sinkhorn_knopp(x, temperature, iterations=rounds, all_reduce=ranks.all_reduce) for x in (cls, patch)]
    else:
        both = []
        for logits, centre in ((cls, centres.dino), (patch, centres.ibot)):
            both.append(centred_softmax(logits, centre, temperature))
            centre.copy_(update_centre(centre, logits, all_reduce=ranks.all_reduce))
    of_cls = both[0].split([len(s.cls_logits) for s in seen])
    of_patch = both[1].split([len(s.patch_logits) for s in seen])
    return [Targets(*pair) for pair in zip(of_cls, of_patch, strict=True)]


def student_loss(
    seen: Seen,
    targets: Targets,
    batch: Batch,
    config: LossConfig,
    temperatures: Temperatures,
    ranks: Ranks,
    gram_teacher: VisionTransformer | None = None,
    directions: torch.Generator | None = None,
) -> dict[str, Float32[Tensor, ""]]:
    """The terms of the loss of one pass, each with gradient, and their weighted sum `total`.

    total = dino (a_l local L_local + a_g L_global) + ibot L_ibot + 2 koleo L_koleo + 2 sigreg L_sigreg + gram L_gram,
    with a_g, a_l the shares of global and local pairs, and L_koleo, L_sigreg means over the two global crops (DINOv3,
    arXiv 2508.10104, sections 3 and 4).

    Args:
        seen: what the student made of the masked global crops and the local ones.
        targets: of the same pass.
        batch: the same pass.
        config: weights.
        temperatures: of this step.
        ranks: where the other samples are.
        gram_teacher: anchors the patch similarities.
        directions: state of chance for SIGReg, the same on every rank.
    """
    samples, student = batch.samples, temperatures.student
    pairs = targets.cls.unflatten(0, (2, samples))
    crops = seen.cls_logits.unflatten(0, (-1, samples))
    terms = {"global": dino_loss(crops[:2], pairs, student_temperature=student, ignore_diagonal=True)}
    global_share, local_share = crop_weights(2, len(crops) - 2)
    total = config.dino * global_share * terms["global"]
    if len(crops) > 2:
        terms["local"] = dino_loss(crops[2:], pairs, student_temperature=student)
        total = total + config.dino * config.local * local_share * terms["local"]
    weights = patch_weights(batch.patch_masks)
    terms["ibot"] = ibot_loss(seen.patch_logits, targets.patch, weights, 2 * samples, student_temperature=student)
    total = total + config.ibot * terms["ibot"]
    if config.koleo > 0:
        both = seen.outputs[0].cls.unflatten(0, (2, samples))
        terms["koleo"] = torch.stack([_koleo(crop, config.koleo_group, ranks) for crop in both]).mean()
        total = total + config.koleo * 2 * terms["koleo"]
    if config.sigreg > 0:
        assert directions is not None
        both = seen.bottleneck[: 2 * samples].unflatten(0, (2, samples))
        terms["sigreg"] = torch.stack([sigreg_loss(crop, directions, all_reduce=ranks.average) for crop in both]).mean()
        total = total + config.sigreg * 2 * terms["sigreg"]
    if gram_teacher is not None:
        terms["gram"] = _gram(gram_teacher, seen, batch)
        total = total + config.gram * terms["gram"]
    return {"total": total, **terms}


def _koleo(cls: Float[Tensor, "sample dim"], group: int, ranks: Ranks) -> Float32[Tensor, ""]:
    """KoLeo within groups of consecutive samples, which may reach over ranks; 0: all samples of the pass."""
    samples = len(cls)
    if group and samples % group == 0:
        return torch.stack([koleo_loss(part) for part in cls.split(group)]).mean()

    def gather(rows: Tensor) -> tuple[Tensor, int]:
        joined, first = ranks.gather(rows)
        start = first // group * group if group else 0
        return joined[start : start + (group or len(joined))], first - start

    return koleo_loss(cls, gather=gather)


def _gram(gram_teacher: VisionTransformer, seen: Seen, batch: Batch) -> Float32[Tensor, ""]:
    """Gram loss of the student's global patches against the Gram teacher on its own, undistorted crops."""
    with torch.no_grad():
        anchored = gram_teacher(batch.gram_crops).patch
    patch = gram_teacher.config.patch_size
    old = (batch.gram_crops.shape[-2] // patch, batch.gram_crops.shape[-1] // patch)
    new = (batch.global_crops.shape[-2] // patch, batch.global_crops.shape[-1] // patch)
    return gram_loss(seen.outputs[0].patch, resize_patches(anchored, old, new))
