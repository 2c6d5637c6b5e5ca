"""Weights of contrasts, learned in training: how much each of them tells about the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from braindino.types import Kind

if TYPE_CHECKING:
    from torch import Tensor

Means = Float[np.ndarray, "case contrast dim"]
"""The mean of the views of each contrast, NaN where a case lacks it."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class ContrastWeights:
    """z = sum_c w_c (x_c - mean_c) / sum_c w_c over the contrasts c that a case has; w > 0 and sums to 1."""

    contrasts: tuple[str, ...]
    weights: Float[np.ndarray, " contrast"]
    mean: Float[np.ndarray, "contrast dim"]
    """Over the training cases, so that a contrast that a case lacks counts as an average one."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {weight:.2f}" for name, weight in zip(self.contrasts, self.weights, strict=True))

    def apply(self, means: Means) -> Float[np.ndarray, "case dim"]:
        """One vector per case; every case has at least one contrast."""
        centred, there = _centred(means, self.mean)
        weights = there * self.weights
        return np.asarray(np.einsum("nc,ncd->nd", weights / weights.sum(1, keepdims=True), centred))

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned; the names as UTF-8 bytes with NUL between them."""
        names = np.frombuffer("\0".join(self.contrasts).encode(), np.uint8).copy()
        return {"contrasts": names, "weights": self.weights, "mean": self.mean}


def from_state(state: Mapping[str, np.ndarray]) -> ContrastWeights:
    """The inverse of `ContrastWeights.state`."""
    names = tuple(state["contrasts"].tobytes().decode().split("\0"))
    return ContrastWeights(names, np.asarray(state["weights"], float), np.asarray(state["mean"], float))


def fit_weights(
    contrasts: Sequence[str],
    x: Means,
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
) -> ContrastWeights:
    """Learn w = softmax(a) together with a linear read-out b of z; the read-out is thrown away.

    Least of loss(z b + b0) + s |b|^2 / 2 + |a|^2 / 100 over the training cases by L-BFGS, from equal weights and b = 0
    on; the strength s is the one of `STRENGTHS` with the lowest loss on the validation cases. Losses as in `network`.
    Features are divided by their deviation. Nothing is drawn at random.

    Raises:
        ValueError: fewer than two contrasts, one that no training case has, or targets that `network.train` refuses.
    """
    import torch

    from braindino.fitting.network import LOSSES, targets_of

    if len(contrasts) < 2:
        raise ValueError(f"fusion weighted needs two contrasts or more, the features hold {', '.join(contrasts)} alone")
    if never := [name for name, lacks in zip(contrasts, np.isnan(x).all(axis=(0, 2)), strict=True) if lacks]:
        raise ValueError(f"no training case has {', '.join(never)}; encode without it (--contrasts)")
    mean, loss = np.nanmean(x, axis=0), LOSSES[kind]
    truth, seen, outputs = targets_of(y, validation[1], kind)
    (rows, there), (held, held_there) = (map(torch.from_numpy, _centred(part, mean)) for part in (x, validation[0]))
    scale = rows.std(dim=(0, 1)).clamp(min=1e-6)
    rows, held = rows / scale, held / scale
    found: list[tuple[float, np.ndarray]] = []
    for strength in STRENGTHS:
        learned = _least(lambda read: loss(_read(rows, there, read), truth), x.shape[1:], outputs, strength)
        with torch.no_grad():
            reached = float(loss(_read(held, held_there, learned), seen))
        found.append((reached, learned[0].softmax(0).numpy()))
    return ContrastWeights(tuple(contrasts), min(found, key=lambda one: one[0])[1], mean)


def _least(
    loss: Callable[[Sequence[Tensor]], Tensor], shape: tuple[int, ...], outputs: int, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """a, b, b0 with the least penalised loss."""
    import torch

    contrasts, dim = shape
    a, b, b0 = (
        torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in ((contrasts,), (dim, outputs), (outputs,))
    )
    optimiser = torch.optim.LBFGS([a, b, b0], max_iter=200, line_search_fn="strong_wolfe")

    def penalised() -> Tensor:
        optimiser.zero_grad()
        value = loss((a, b, b0)) + strength * b.square().sum() / 2 + a.square().sum() / 100
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(penalised)
    return a.detach(), b.detach(), b0.detach()


def _read(rows: Tensor, there: Tensor, learned: Sequence[Tensor]) -> Tensor:
    """What the read-out says of the weighted contrasts."""
    a, b, b0 = learned
    weights = there * a.softmax(0)
    mixed: Tensor = (weights / weights.sum(1, keepdim=True))[..., None].mul(rows).sum(1)
    return mixed @ b + b0


def _centred(
    means: Means, mean: Float[np.ndarray, "contrast dim"]
) -> tuple[Float[np.ndarray, "case contrast dim"], Bool[np.ndarray, "case contrast"]]:
    """Deviations from the mean of each contrast, 0 where a case lacks it, and which ones it has."""
    there = ~np.isnan(means).all(axis=2)
    return np.where(there[..., None], means - mean, 0.0), there
