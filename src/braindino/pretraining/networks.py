"""Student, EMA teacher and Gram teacher, and the loss of one step between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from braindino.model.projection import ProjectionHead
from braindino.model.vit import Output, VisionTransformer
from braindino.pretraining.config import LossConfig, PretrainConfig
from braindino.pretraining.losses import (
    crop_weights,
    dino_loss,
    gram_loss,
    ibot_loss,
    koleo_loss,
    patch_weights,
    resize_patches,
)
from braindino.pretraining.targets import sinkhorn_knopp


class Network(nn.Module):
    """A backbone with its two projection heads: what student and teacher each are."""

    def __init__(self, config: PretrainConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        dim, dino, ibot = config.model.dim, config.dino_head, config.ibot_head
        self.backbone = VisionTransformer(config.model, generator)
        self.dino_head, self.ibot_head = (
            ProjectionHead(
                dim, head.hidden, head.bottleneck, head.prototypes, generator, unit_prototypes=head.unit_prototypes
            )
            for head in (dino, ibot)
        )

    def modules_to_clip(self) -> Iterator[nn.Module]:
        """The modules whose gradient norms are clipped one by one."""
        yield from (self.backbone, self.dino_head, self.ibot_head)


@dataclass(frozen=True)
class Batch:
    """Crops of one step, crop-major: crop 0 of all samples, then crop 1, ..."""

    global_crops: Float[Tensor, "global_batch channel side side"]
    local_crops: Float[Tensor, "local_batch channel small small"]
    gram_crops: Float[Tensor, "global_batch channel large large"]
    patch_masks: Bool[Tensor, "global_batch patch"]
    """True where the student does not see the patch."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step: the total that is differentiated and the raw terms; monitors of its health."""

    total: Float[Tensor, ""]
    terms: dict[str, float]
    targets: Float[Tensor, "crop prototype"]
    cls: Float[Tensor, "crop dim"]


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameters only."""
    theirs: list[Tensor] = list(student.parameters())
    ours: list[Tensor] = list(teacher.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - momentum)


def step_loss(
    student: Network,
    teacher: Network,
    gram_teacher: VisionTransformer | None,
    batch: Batch,
    config: LossConfig,
    *,
    teacher_temperature: float,
    student_temperature: float,
) -> StepLoss:
    """DINO + iBOT + KoLeo (+ Gram) of one batch (DINOv3, arXiv 2508.10104, section 3 and 4).

    total = dino (a_l local L_local + a_g L_global) + ibot L_ibot + koleo sum over global crops + gram L_gram, with a_g,
    a_l the shares of global and local pairs. The teacher sees the global crops whole, the student masked.
    """
    samples = len(batch.global_crops) // 2
    targets, patch_targets = _teacher_targets(teacher, batch, config, teacher_temperature)
    crops = [batch.global_crops] + ([batch.local_crops] if len(batch.local_crops) else [])
    masks = [batch.patch_masks, None][: len(crops)]
    outputs = student.backbone.forward_list(crops, masks)
    logits = student.dino_head(torch.cat([output.cls for output in outputs]))
    pairs = targets.unflatten(0, (2, samples))
    global_logits = logits[: 2 * samples].unflatten(0, (2, samples))
    losses = {"global": dino_loss(global_logits, pairs, student_temperature=student_temperature, ignore_diagonal=True)}
    global_share, local_share = crop_weights(2, len(batch.local_crops) // samples)
    total = config.dino * global_share * losses["global"]
    if len(outputs) > 1:
        local_logits = logits[2 * samples :].unflatten(0, (-1, samples))
        losses["local"] = dino_loss(local_logits, pairs, student_temperature=student_temperature)
        total = total + config.dino * config.local * local_share * losses["local"]
    patch_logits = student.ibot_head(outputs[0].patch[batch.patch_masks])
    weights = patch_weights(batch.patch_masks)
    losses["ibot"] = ibot_loss(
        patch_logits, patch_targets, weights, 2 * samples, student_temperature=student_temperature
    )
    total = total + config.ibot * losses["ibot"]
    if config.koleo > 0:
        per_crop = [koleo_loss(cls) for cls in outputs[0].cls.unflatten(0, (2, samples))]
        losses["koleo"] = torch.stack(per_crop).mean()
        total = total + config.koleo * 2 * losses["koleo"]
    if gram_teacher is not None:
        losses["gram"] = _gram(gram_teacher, outputs[0], batch)
        total = total + config.gram * losses["gram"]
    terms = {name: float(loss.detach()) for name, loss in losses.items()}
    return StepLoss(total, {"total": float(total.detach()), **terms}, targets, outputs[0].cls.detach())


@torch.no_grad()
def _teacher_targets(teacher: Network, batch: Batch, config: LossConfig, temperature: float) -> tuple[Tensor, Tensor]:
    """Balanced prototype probabilities of the global crops' CLS tokens and of the patches hidden from the student."""
    output = teacher.backbone(batch.global_crops)
    rounds = config.sinkhorn_iterations
    targets = sinkhorn_knopp(teacher.dino_head(output.cls), temperature, iterations=rounds)
    hidden = teacher.ibot_head(output.patch[batch.patch_masks])
    return targets, sinkhorn_knopp(hidden, temperature, iterations=rounds)


def _gram(gram_teacher: VisionTransformer, output: Output, batch: Batch) -> Tensor:
    """Gram loss of the student's global patches against the Gram teacher on its own, undistorted crops."""
    with torch.no_grad():
        anchored = gram_teacher(batch.gram_crops).patch
    patch = gram_teacher.config.patch_size
    old = (batch.gram_crops.shape[-2] // patch, batch.gram_crops.shape[-1] // patch)
    new = (batch.global_crops.shape[-2] // patch, batch.global_crops.shape[-1] // patch)
    return gram_loss(output.patch, resize_patches(anchored, old, new))
