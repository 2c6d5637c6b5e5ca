"""Student, EMA teacher and Gram teacher: what they are, and how they see a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from braindino.model.projection import ProjectionHead
from braindino.model.vit import Output, VisionTransformer
from braindino.pretraining.config import PretrainConfig


@dataclass(frozen=True)
class Batch:
    """Crops of some slices, crop-major: crop 0 of all samples, then crop 1, ..."""

    global_crops: Float[Tensor, "global_batch channel side side"]
    local_crops: Float[Tensor, "local_batch channel small small"]
    gram_crops: Float[Tensor, "gram_batch channel large large"]
    """As many as global crops, or none where no Gram teacher looks at them."""
    patch_masks: Bool[Tensor, "global_batch patch"]
    """True where the student does not see the patch."""

    @property
    def samples(self) -> int:
        """Number of slices."""
        return len(self.global_crops) // 2

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from where a GPU copies while it computes."""
        return Batch(**{name: value.pin_memory() for name, value in vars(self).items()})


class Seen(NamedTuple):
    """What a network makes of a batch."""

    outputs: list[Output]
    """Tokens of the global and, where it saw them, of the local crops."""
    bottleneck: Tensor
    """Projected CLS tokens of all crops before normalisation and prototypes, (crop x sample, bottleneck)."""
    cls_logits: Tensor
    """Prototype logits of the CLS tokens of all crops, (crop x sample, prototype)."""
    patch_logits: Tensor
    """Prototype logits of the hidden patches of the global crops, (hidden, prototype)."""


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

    def forward(
        self,
        crops: Sequence[Float[Tensor, "_ channel _ _"]],
        masks: Sequence[Bool[Tensor, "_ _"] | None],
        hidden: Bool[Tensor, "global_batch patch"],
    ) -> Seen:
        """Tokens and logits of `crops`, which are seen with `masks`; patch logits where `hidden` is True."""
        outputs = self.backbone.forward_list(crops, masks)
        bottleneck = self.dino_head.mlp(torch.cat([output.cls for output in outputs]))
        return Seen(outputs, bottleneck, self.dino_head.logits(bottleneck), self.ibot_head(outputs[0].patch[hidden]))


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, parameters only (of FSDP, this rank's part)."""
    ours, theirs = ([local(p) for p in network.parameters()] for network in (teacher, student))
    torch._foreach_lerp_(ours, theirs, 1 - momentum)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts of a sharded tensor together, on every rank; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
