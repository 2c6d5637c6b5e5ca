"""The four losses of self-distillation as pure functions. All are computed in float32, also under autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

Gather = Callable[[Tensor], tuple[Tensor, int]]
"""Rows of a group of ranks, with gradient, and the index of this rank's first row among them."""


def dino_loss(
    student_logits: Float[Tensor, "student sample prototype"],
    targets: Float[Tensor, "teacher sample prototype"],
    *,
    student_temperature: float = 0.1,
    ignore_diagonal: bool = False,
) -> Float32[Tensor, ""]:
    """Cross-entropy between student and teacher CLS of the same sample, mean over pairs of crops and samples.

    CE(s, t) = - sum_k t_k log softmax(s / student_temperature)_k (arXiv 2104.14294, equation 2).

    Args:
        student_logits: of the global or of the local crops.
        targets: teacher probabilities of the global crops.
        student_temperature: > 0.
        ignore_diagonal: leave out the pairs of a crop with itself; for global against global crops.

    Raises:
        ValueError: `ignore_diagonal` with different numbers of crops, or with a single one.
    """
    students, teachers = len(student_logits), len(targets)
    if ignore_diagonal and (students != teachers or students < 2):
        raise ValueError(f"ignore_diagonal needs the same two or more crops twice, got {students} and {teachers}")
    with _float32(student_logits):
        log_p = (student_logits.float() / student_temperature).log_softmax(dim=-1)
        pairs = -torch.einsum("snk,tnk->st", log_p, targets.float()) / student_logits.shape[1]
    if ignore_diagonal:
        return (pairs.sum() - pairs.trace()) / (students * (students - 1))
    return pairs.mean()


def crop_weights(num_global: int, num_local: int, *, ignore_diagonal: bool = True) -> tuple[float, float]:
    """Weights of the global and the local DINO loss: their shares of all pairs of crops, which sum to 1."""
    pairs = num_global * (num_global - 1) if ignore_diagonal else num_global**2
    total = pairs + num_global * num_local
    return pairs / total, num_global * num_local / total


def ibot_loss(
    student_logits: Float[Tensor, "masked prototype"],
    targets: Float[Tensor, "masked prototype"],
    weights: Float[Tensor, " masked"],
    num_images: int,
    *,
    student_temperature: float = 0.1,
) -> Float32[Tensor, ""]:
    """Cross-entropy at the masked patches: sum of weight * CE over `num_images` (arXiv 2111.07832, equation 2).

    Args:
        student_logits: of the masked patches, image after image.
        targets: teacher probabilities at the same places.
        weights: 1 / number of masked patches of their image (`patch_weights`).
        num_images: number of global crops, masked or not.
        student_temperature: > 0.
    """
    log_p = (student_logits.float() / student_temperature).log_softmax(dim=-1)
    entropies = -(targets.float() * log_p).sum(dim=-1)
    return (entropies * weights.float()).sum() / num_images


def patch_weights(patch_mask: Bool[Tensor, "image patch"]) -> Float32[Tensor, " masked"]:
    """1 / number of masked patches of its image, for each masked patch, row-major."""
    counts = patch_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (1 / counts.float()).expand_as(patch_mask)[patch_mask]


def koleo_loss(
    cls: Float[Tensor, "sample dim"], *, neighbours: int = 1, gather: Gather | None = None
) -> Float32[Tensor, ""]:
    """Spread of the CLS tokens of one crop: - mean log distance to the nearest neighbours on the unit sphere.

    Kozachenko-Leonenko entropy estimate (arXiv 1806.03198, equation 5): x is divided by |x|, neighbours are
    those with the largest dot product, d = |x - x' + 1e-8|, loss = - mean log(d + 1e-8) over samples and
    neighbours. The gradient reaches a sample and its neighbours. Mean over ranks = value of one process.

    Args:
        cls: student CLS tokens before the projection head, one per sample.
        neighbours: how many neighbours count.
        gather: joins the ranks of a group; None for this rank alone.

    Raises:
        ValueError: fewer than `neighbours` + 1 samples: there is no neighbour, and the loss has no meaning.
    """
    with _float32(cls):
        own = F.normalize(cls.float(), dim=-1, eps=1e-8)
        group, first = (own, 0) if gather is None else gather(own)
        if len(group) <= neighbours:
            raise ValueError(
                f"the KoLeo loss needs at least {neighbours + 1} samples for {neighbours} neighbours, "
                f"got {len(group)}; use a larger batch or set its weight to 0"
            )
        with torch.no_grad():
            similarity = own @ group.T
            similarity.diagonal(offset=first).fill_(-torch.inf)
            nearest = similarity.topk(neighbours, dim=1).indices
        distance = torch.linalg.vector_norm(own[:, None] - group[nearest] + 1e-8, dim=-1)
        loss: Tensor = -(distance + 1e-8).log().mean()
    return loss


def sigreg_loss(
    tokens: Float[Tensor, "sample dim"],
    generator: torch.Generator,
    *,
    directions: int = 1024,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
) -> Float32[Tensor, ""]:
    """Distance of the tokens of one crop from a standard normal distribution, over random directions (SIGReg).

    For unit directions u, the empirical characteristic function phi(t) = mean_n exp(i t u . x_n) at 17 knots t in
    [-5, 5]; loss = mean over u of the integral of |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt by the trapezoid rule
    (LeJEPA, arXiv 2511.08544, section 4). It has no pairs of samples, so it can be summed over ranks.

    Args:
        tokens: before any L2 normalisation.
        generator: of the directions; on CPU, and in the same state on every rank.
        directions: how many.
        all_reduce: mean over ranks, with gradient; None for one process.
    """
    with _float32(tokens):
        drawn = torch.randn(tokens.shape[1], directions, generator=generator).to(tokens.device)
        knots = torch.linspace(-5, 5, 17, device=tokens.device)
        angles = (tokens.float() @ F.normalize(drawn, dim=0))[:, :, None] * knots
        means = torch.stack((angles.cos().mean(dim=0), angles.sin().mean(dim=0)))
        if all_reduce is not None:
            means = all_reduce(means)
        normal = (-knots.square() / 2).exp()
        distance = (means[0] - normal).square() + means[1].square()
        return torch.trapezoid(distance * normal, knots, dim=1).mean()


def gram_loss(
    student: Float[Tensor, "image patch dim"],
    teacher: Float[Tensor, "image patch dim"],
    *,
    level: Literal["image", "batch"] = "image",
    negatives: Literal["keep", "clamp_teacher", "clamp_both"] = "keep",
    unit_length: bool = True,
) -> Float32[Tensor, ""]:
    """Mean squared difference of the patch similarities of student and Gram teacher (arXiv 2508.10104, equation 2).

    S = X X^T over the patches of one image (or of the whole batch), with features of unit length: cosines.

    Args:
        student: patch tokens after the final norm.
        teacher: those of the Gram teacher on the same grid (`resize_patches`).
        level: similarities within each image, or between all patches of the batch. For some patches only (the masked
            ones, say), give `student[mask][None]` and `teacher[mask][None]`, as one image.
        negatives: keep them; set them to 0 in the teacher, so that the student's are pulled up to 0; or set
            them to 0 in both, so that they cost nothing where the two agree in sign.
        unit_length: divide each patch token by its length; without it, lengths are compared as well.
    """
    with _float32(student):
        matrices = []
        for features in (student, teacher):
            x = F.normalize(features.float(), dim=-1) if unit_length else features.float()
            x = x.flatten(0, 1)[None] if level == "batch" else x
            matrices.append(x @ x.transpose(1, 2))
        ours, theirs = matrices
        if negatives != "keep":
            theirs = theirs.clamp(min=0)
        if negatives == "clamp_both":
            ours = ours.clamp(min=0)
        return F.mse_loss(ours, theirs)


def resize_patches(
    patches: Float[Tensor, "image patch dim"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "image resized dim"]:
    """Patch tokens of a grid (rows, columns), bicubically interpolated (no antialiasing) to the grid `size`.

    Raises:
        ValueError: the number of patches is not rows * columns.
    """
    if patches.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{patches.shape[1]} patches do not make a grid of {grid[0]} x {grid[1]}")
    if grid == size:
        return patches
    maps = patches.transpose(1, 2).reshape(len(patches), -1, *grid)
    return F.interpolate(maps, size=size, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def _float32(tensor: Tensor) -> torch.autocast:
    """Products keep float32 inside, whatever autocast says."""
    return torch.autocast(tensor.device.type, enabled=False)
