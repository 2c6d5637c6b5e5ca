"""Signs that tell a healthy run from a collapsed one, computed on tensors that the step has anyway.

All numbers are of the whole batch: the same however it is shared by passes and ranks. docs/pretraining.md says what
each looks like in a healthy and in a collapsed run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from braindino.pretraining.networks import Network, Seen, local
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.step import Targets

ROWS = 4096
"""Targets looked at together: a stage 2 has gigabytes of them, and no second copy is made."""
RANK_SAMPLES = 128
"""The effective rank is that of the first samples of a batch: of all 512 it would take a noticeable part of a step."""


class Look(NamedTuple):
    """What is kept of the student's first global crops of one pass."""

    cls: Float32[Tensor, "sample dim"]
    patch_cosine: Float32[Tensor, " sample"]


@torch.no_grad()
def look(seen: Seen, samples: int) -> Look:
    """CLS tokens of the first global crops, and how alike the patches of each are.

    The mean cosine between the n patches of one crop, the off-diagonal of their Gram matrix, is
    (|sum of the unit vectors|^2 - n) / (n (n - 1)): no n x n matrix is made.
    """
    first = seen.outputs[0]
    unit = torch.nn.functional.normalize(first.patch[:samples].float(), dim=-1)
    count = unit.shape[1]
    cosine = (unit.sum(dim=1).square().sum(dim=-1) - count) / max(count * (count - 1), 1)
    return Look(first.cls[:samples].float(), cosine)


@torch.no_grad()
def health(
    targets: Sequence[Targets], looks: Sequence[Look], student: Network, terms: Mapping[str, float], ranks: Ranks
) -> dict[str, float]:
    """Monitors of one step over all passes of all ranks.

    - `target_entropy`, `mean_target_entropy`, `prototypes_used` of CLS targets, and with `patch_` before the name of
      those of hidden patches: see `balance`;
    - `kl`: mean of KL(target || student) over the pairs of global crops, nats, at least 0: what of the agreement
      `global` the student can still learn; it is `global` - `target_entropy`;
    - `prototype_norm`, `patch_prototype_norm`: length of the longest prototype of each head of the student;
    - `cls_cosine`: mean cosine between CLS tokens of different samples, -1 to 1;
    - `effective_rank` of the CLS tokens of the first `RANK_SAMPLES` samples: see the function;
    - `patch_cosine`: mean cosine between different patches of one crop, -1 to 1, mean over samples.

    Args:
        targets: of the passes of this rank.
        looks: of the same passes.
        student: after or before the update.
        terms: the loss of the step, mean over passes and ranks.
        ranks: where the others are.
    """
    said = balance([one.cls for one in targets], ranks)
    patch = {f"patch_{name}": value for name, value in balance([one.patch for one in targets], ranks).items()}
    cls = _in_order(torch.stack([one.cls for one in looks]), ranks)
    alike, _ = ranks.gather(torch.cat([one.patch_cosine for one in looks]))
    unit = torch.nn.functional.normalize(cls, dim=1)
    count = len(unit)
    return {
        **said,
        "kl": terms["global"] - said["target_entropy"],
        **patch,
        "prototype_norm": _longest(student.dino_head.last_layer.weight, ranks),
        "patch_prototype_norm": _longest(student.ibot_head.last_layer.weight, ranks),
        "cls_cosine": float((unit.sum(dim=0).square().sum() - count) / max(count * (count - 1), 1)),
        "effective_rank": effective_rank(cls[:RANK_SAMPLES]),
        "patch_cosine": float(alike.mean()),
    }


def balance(targets: Sequence[Float[Tensor, "_ prototype"]], ranks: Ranks) -> dict[str, float]:
    """How targets t_n (probabilities of K prototypes) are spread, over all samples n; ranks may hold different numbers.

    - target_entropy: mean over n of H(t_n) = - sum_k t_nk ln t_nk, 0 to ln K nats (ln K: uniform, nothing is said);
    - mean_target_entropy: H of the mean target, target_entropy to ln K (0: all samples get one and the same answer);
    - prototypes_used: different arg-max prototypes, 1 to K.

    The difference of the two entropies is the mutual information of sample and prototype; 0 says that all samples get
    the same target. Without samples (no patch is hidden) all three are 0.
    """
    width, device = targets[0].shape[1], targets[0].device
    total, used = torch.zeros(width, device=device), torch.zeros(width, device=device)
    entropy, count = torch.zeros((), device=device), 0
    for rows in _blocks(targets):
        entropy -= torch.special.xlogy(rows, rows).sum()
        total += rows.sum(dim=0)
        used[rows.argmax(dim=1)] = 1
        count += len(rows)
    sums = ranks.all_reduce(torch.cat([total, torch.stack([entropy, entropy.new_tensor(count)])]), "sum")
    samples = float(sums[-1].clamp(min=1))
    mean = sums[:-2] / samples
    return {
        "target_entropy": float(sums[-2]) / samples,
        "mean_target_entropy": -float(torch.special.xlogy(mean, mean).sum()),
        "prototypes_used": float(ranks.all_reduce(used, "max").sum()),
    }


def _blocks(targets: Sequence[Tensor]) -> Iterable[Float32[Tensor, "row prototype"]]:
    for one in targets:
        for rows in one.split(ROWS):
            if len(rows):
                yield rows.float()


def _in_order(cls: Float32[Tensor, "of_rank sample dim"], ranks: Ranks) -> Float32[Tensor, "all_samples dim"]:
    """Rows of all passes of all ranks in the order of the batch: pass a of rank r is the a x ranks + r th part."""
    joined, _ = ranks.gather(cls)
    by_place: Tensor = joined.unflatten(0, (ranks.count, -1)).transpose(0, 1)
    return by_place.flatten(0, 2)


def effective_rank(x: Float[Tensor, "sample dim"]) -> float:
    """exp of the entropy of the normalised singular values of the centred rows (Roy and Vetterli 2007).

    From 1 (all on one line) to min(samples - 1, dim); NaN where a value is not finite. The singular values are the
    roots of the eigenvalues of the smaller of the two products of the matrix with itself.
    """
    if not torch.isfinite(x).all():
        return float("nan")
    centred = x.double() - x.double().mean(dim=0)
    product = centred @ centred.T if len(x) < x.shape[1] else centred.T @ centred
    singular = torch.linalg.eigvalsh(product).clamp(min=0).sqrt()
    share = singular / singular.sum().clamp(min=1e-12)
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def _longest(prototypes: Tensor, ranks: Ranks) -> float:
    """Largest Euclidean length of a row; of FSDP each rank looks at its own rows."""
    rows = local(prototypes.detach()).float()
    longest = torch.cat([rows.new_zeros(1), torch.linalg.vector_norm(rows, dim=1)]).max()
    return float(ranks.all_reduce(longest, "max"))
