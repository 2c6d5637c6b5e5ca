"""What the student is asked to predict: the teacher's logits as balanced probabilities over prototypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Float32
from torch import Tensor

AllReduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]
"""Sum or elementwise maximum of a tensor over all ranks; returns a new tensor, equal on every rank."""


@torch.no_grad()
def sinkhorn_knopp(
    logits: Float[Tensor, "sample prototype"],
    temperature: float,
    *,
    iterations: int = 3,
    all_reduce: AllReduce | None = None,
) -> Float32[Tensor, "sample prototype"]:
    """Teacher probabilities such that all prototypes are used about equally (arXiv 2006.09882, section 3.1).

    Q = exp(logits / temperature); then, `iterations` times: divide each prototype by its sum over all samples
    of all ranks, and each sample by its sum over prototypes. Rows of the result sum to 1. The numbers of
    samples and prototypes cancel, so ranks may hold different numbers of samples, also none.

    It is done on logarithms: no overflow at large logits, no division by a sum that underflowed to zero.

    Args:
        logits: of this rank: CLS of all crops together, or masked patches.
        temperature: of the teacher, > 0.
        iterations: at least 1.
        all_reduce: joins the ranks; None for one process.
    """
    log_q = logits.float() / temperature
    for _ in range(iterations):
        log_q = log_q - _log_sum_over_ranks(log_q, all_reduce)
        log_q = log_q.log_softmax(dim=1)
    return log_q.exp()


def _log_sum_over_ranks(
    log_q: Float32[Tensor, "sample prototype"], all_reduce: AllReduce | None
) -> Float32[Tensor, " prototype"]:
    """log sum_n exp(log_q) over the samples of all ranks."""
    local = log_q.logsumexp(dim=0)
    if all_reduce is None:
        return local
    top = all_reduce(local, "max")
    return top + all_reduce((local - top).exp(), "sum").log()


@torch.no_grad()
def centred_softmax(
    logits: Float[Tensor, "sample prototype"], centre: Float32[Tensor, " prototype"], temperature: float
) -> Float32[Tensor, "sample prototype"]:
    """softmax((logits - centre) / temperature): the centring of DINO (arXiv 2104.14294, section 3.1)."""
    return ((logits.float() - centre) / temperature).softmax(dim=1)


@torch.no_grad()
def update_centre(
    centre: Float32[Tensor, " prototype"],
    logits: Float[Tensor, "sample prototype"],
    *,
    momentum: float = 0.9,
    all_reduce: AllReduce | None = None,
) -> Float32[Tensor, " prototype"]:
    """momentum * centre + (1 - momentum) * mean of the logits over all ranks; unchanged without samples.

    Unchanged also where a logit is not finite: that step is skipped, and one bad batch must not spoil all later ones.
    """
    total = torch.cat((logits.float().sum(dim=0), logits.new_full((1,), len(logits), dtype=torch.float32)))
    if all_reduce is not None:
        total = all_reduce(total, "sum")
    if total[-1] == 0 or not total.isfinite().all():
        return centre
    return momentum * centre + (1 - momentum) * total[:-1] / total[-1]
