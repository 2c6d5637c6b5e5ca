"""Signs that tell a healthy run from a collapsed one, computed on tensors that the step has anyway."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from braindino.pretraining.ranks import Ranks


@torch.no_grad()
def health(
    targets: Float[Tensor, "crop prototype"], cls: Float[Tensor, "sample dim"], ranks: Ranks
) -> dict[str, float]:
    """Monitors of one step over all ranks.

    - target_entropy: mean entropy of a teacher target, nats (at ln K: uniform, nothing is said);
    - prototypes_used: distinct arg-max prototypes over the batch;
    - cls_cosine: mean cosine between CLS tokens of different samples (near 1: all the same, collapse);
    - effective_rank: exp of the entropy of the normalised singular values of the centred CLS tokens.

    Args:
        targets: of this rank.
        cls: the student's, of the first global crops of this rank.
        ranks: where the others are.
    """
    cls, _ = ranks.gather(cls.float())
    best, _ = ranks.gather(targets.argmax(dim=1))
    entropy, _ = ranks.gather(-(targets * targets.clamp(min=1e-12).log()).sum(dim=1))
    unit = torch.nn.functional.normalize(cls, dim=1)
    count = len(unit)
    cosine = ((unit @ unit.T).sum() - count) / (count * (count - 1))
    singular = torch.linalg.svdvals(cls - cls.mean(dim=0))
    share = singular / singular.sum().clamp(min=1e-12)
    return {
        "target_entropy": float(entropy.mean()),
        "prototypes_used": float(best.unique().numel()),
        "cls_cosine": float(cosine),
        "effective_rank": float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum())),
    }
