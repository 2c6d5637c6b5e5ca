"""Signs that tell a healthy run from a collapsed one, computed on tensors that the step has anyway."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def health(targets: Float[Tensor, "crop prototype"], cls: Float[Tensor, "sample dim"]) -> dict[str, float]:
    """Monitors of one batch.

    - target_entropy: mean entropy of a teacher target, nats (at ln K: uniform, nothing is said);
    - prototypes_used: distinct arg-max prototypes over the batch;
    - cls_cosine: mean cosine between CLS tokens of different samples (near 1: all the same, collapse);
    - effective_rank: exp of the entropy of the normalised singular values of the centred CLS tokens.
    """
    unit = torch.nn.functional.normalize(cls.float(), dim=1)
    count = len(unit)
    cosine = ((unit @ unit.T).sum() - count) / (count * (count - 1))
    singular = torch.linalg.svdvals(cls.float() - cls.float().mean(dim=0))
    share = singular / singular.sum().clamp(min=1e-12)
    return {
        "target_entropy": float(-(targets * targets.clamp(min=1e-12).log()).sum(dim=1).mean()),
        "prototypes_used": float(targets.argmax(dim=1).unique().numel()),
        "cls_cosine": float(cosine),
        "effective_rank": float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum())),
    }
