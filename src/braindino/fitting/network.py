"""How small networks on features learn: one loop, one budget per kind of task, whatever the encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from braindino.fitting.targets import check_events, check_rows, check_values, class_indices
from braindino.progress import note
from braindino.types import Kind

Rows = tuple[np.ndarray, ...]
"""What a network takes, each with the subject as its first axis; the features come first."""


@dataclass(frozen=True)
class Budget:
    """What a network may spend; the same for every encoder."""

    rate: float
    decay: float
    decoupled: bool
    """AdamW instead of Adam with an L2 penalty."""
    batch: int
    """Subjects per step; 0: all of them."""
    steps: int
    """A round is one pass through the training subjects, or more of them until it has this many steps."""
    rounds: int = 100
    patience: int = 10
    """Rounds without a lower validation loss after which it stops."""


BUDGETS: Mapping[Kind, Budget] = {
    "classification": Budget(rate=4e-4, decay=1e-5, decoupled=False, batch=16, steps=40),
    "regression": Budget(rate=1e-3, decay=1e-4, decoupled=True, batch=16, steps=20),
    "survival": Budget(rate=1e-3, decay=1e-3, decoupled=False, batch=0, steps=10),
}
"""Optimisers and penalties of the paper's code; batch, rate and length differ, see docs/heads.md."""


class Network(nn.Module):
    """Features standardised as in training, `inner`, and its outputs brought back to the unit of the target."""

    def __init__(self, inner: nn.Module, dim: int, outputs: int) -> None:
        super().__init__()
        self.inner = inner
        self.mean, self.scale = (nn.Buffer(value) for value in (torch.zeros(dim), torch.ones(dim)))
        self.shift, self.unit = (nn.Buffer(value) for value in (torch.zeros(outputs), torch.ones(outputs)))

    def forward(self, features: Tensor, *others: Tensor) -> Tensor:
        """Outputs (subject, output) in standard units."""
        out: Tensor = self.inner((features - self.mean) / self.scale, *others)
        return out

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned, as arrays."""
        return {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}

    def answers(self, rows: Rows, batch: int = 64) -> Float[np.ndarray, "subject output"]:
        """Class probabilities where there are several outputs, else values in the target's unit.

        In float64, so that a subject's answer does not depend on those beside it.
        """
        network = deepcopy(self).double().eval()
        tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in rows]
        found = []
        with torch.no_grad():
            for first in range(0, len(tensors[0]), batch):
                found.append(network(*(part[first : first + batch].double() for part in tensors)))
            output = torch.cat(found)
            output = output.softmax(1) if output.shape[1] > 1 else output * network.unit + network.shift
        return np.asarray(output.numpy())


def from_arrays(inner: nn.Module, state: Mapping[str, np.ndarray]) -> Network:
    """The network that `state()` described, around an `inner` of the same shape."""
    network = Network(inner, len(state["mean"]), len(state["unit"]))
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return network.eval()


def train(
    build: Callable[[int], nn.Module],
    x: Rows,
    y: np.ndarray,
    validation: tuple[Rows, np.ndarray],
    kind: Kind,
    seed: int,
) -> Network:
    """Learn `build(outputs)` within the budget of `kind`; the round with the lowest validation loss is kept.

    Losses: cross-entropy; mean squared error of the target standardised on the training subjects; negative log
    partial likelihood of Cox per event with all subjects in one step, ties by Breslow. Round 0, before any step, counts
    as well. Features are standardised by mean and deviation over the training subjects (and views). Weights,
    dropout and the order of the subjects are drawn from `seed`; torch's global generator is left as it was.

    Raises:
        ValueError: features or targets that are not finite, a class without a training subject, a single class, or too
            few events.
    """
    budget = BUDGETS[kind]
    check_rows(x[0], y, "training")
    check_rows(validation[0][0], validation[1], "validation")
    truth, seen, outputs = targets_of(y, validation[1], kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(build(outputs), x[0].shape[-1], outputs)
        standardise(network, x[0], y, kind)
        optimiser = (torch.optim.AdamW if budget.decoupled else torch.optim.Adam)(
            network.parameters(), lr=budget.rate, weight_decay=budget.decay
        )
        rng = np.random.default_rng([seed, 4])
        rows, held = _tensors(x), _tensors(validation[0])
        best, waited = (_loss_of(network, held, seen, kind), deepcopy(network.state_dict())), 0
        batch = budget.batch or len(truth)
        passes = math.ceil(budget.steps / math.ceil(len(truth) / batch))
        for _ in range(budget.rounds):
            network.train()
            orders = [torch.from_numpy(rng.permutation(len(truth))) for _ in range(passes)]
            for chosen in (part for order in orders for part in order.split(batch)):
                loss = LOSSES[kind](network(*(part[chosen] for part in rows)), truth[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            reached = _loss_of(network, held, seen, kind)
            waited += 1
            if reached < best[0]:
                best, waited = (reached, deepcopy(network.state_dict())), 0
            if waited == budget.patience:
                break
    network.load_state_dict(best[1])
    return network.eval()


def tell_share(head: str, trained: int, total: int) -> None:
    """Say on stderr how many of all parameters, head and encoder together, are trained."""
    note(f"{head} trains {trained:,} of {total:,} parameters ({trained / total:.2%})")


def cox_loss(output: Float[Tensor, "subject 1"], y: Float[Tensor, "subject 2"]) -> Float[Tensor, ""]:
    """Negative log partial likelihood per event: log of the sum of exp(risk) over the risk set, minus the own risk."""
    order = torch.argsort(y[:, 0], descending=True, stable=True)
    risk, time, event = output[order, 0], y[order, 0], y[order, 1] > 0
    last = torch.searchsorted(-time, -time, right=True) - 1
    at_risk = torch.logcumsumexp(risk, 0)[last]
    return (at_risk - risk)[event].mean()


def _squared_error(output: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(output[:, 0], y)


LOSSES: Mapping[Kind, Callable[[Tensor, Tensor], Tensor]] = {
    "classification": F.cross_entropy,
    "regression": _squared_error,
    "survival": cox_loss,
}


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with zero weights and bias: a network that ends with it starts from the trivial answer."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def perceptron(dim: int, outputs: int) -> nn.Module:
    """The paper's head, its last layer zero: LayerNorm(D), Linear(D, D), GELU, Linear(D, outputs)."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), zeroed(nn.Linear(dim, outputs)))


def targets_of(y: np.ndarray, validation: np.ndarray, kind: Kind) -> tuple[Tensor, Tensor, int]:
    """Targets as the loss takes them, and the number of outputs."""
    if kind == "classification":
        labels, held = class_indices(y, validation)
        return torch.from_numpy(labels), torch.from_numpy(held), int(labels.max()) + 1
    if kind == "survival":
        check_events(y, 2, "training", "network's")
        check_events(validation, 1, "validation", "network's")
        return torch.from_numpy(y).float(), torch.from_numpy(validation).float(), 1
    check_values(y, "training")
    check_values(validation, "validation")
    scale = y.std() or 1.0
    own, seen = (torch.from_numpy((values - y.mean()) / scale).float() for values in (y, validation))
    return own, seen, 1


def standardise(network: Network, features: np.ndarray, y: np.ndarray, kind: Kind) -> None:
    """Set mean and deviation of the features, and of the target of a regression, to those of the training subjects."""
    axes = tuple(range(features.ndim - 1))
    mean, scale = features.mean(axes, dtype=np.float64), features.std(axes, dtype=np.float64)
    scale = np.where(scale > 1e-6 * (np.abs(mean) + 1e-6), scale, 1.0)
    network.mean.copy_(torch.from_numpy(mean))
    network.scale.copy_(torch.from_numpy(scale))
    if kind == "regression":
        network.shift.fill_(float(y.mean()))
        network.unit.fill_(float(y.std()) or 1.0)


def _tensors(rows: Rows) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(part)).float() for part in rows]


def _loss_of(network: Network, rows: list[Tensor], truth: Tensor, kind: Kind, batch: int = 64) -> float:
    network.eval()
    with torch.no_grad():
        pieces = [network(*(part[first : first + batch] for part in rows)) for first in range(0, len(truth), batch)]
        return float(LOSSES[kind](torch.cat(pieces), truth))
