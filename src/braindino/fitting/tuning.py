"""How a copy of an encoder learns together with a head: one loop for all that needs its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor, nn

from braindino.fitting.network import LOSSES, Network, perceptron, standardise, targets_of, tell_share
from braindino.fitting.targets import check_rows
from braindino.progress import progress
from braindino.types import Kind

Pictures = Sequence[Float16[np.ndarray, "view channel row column"]]
"""The views of each case."""

STEPS = 200
BATCH = 8
"""Cases per step."""
VIEWS = 16
"""Views of a case in a step, drawn without replacement; in use all of them count."""
RATE, DECAY, CLIP = 3e-4, 0.05, 12.0
"""AdamW for the head, as the paper's code for its dense head; the rate falls linearly to 0."""
LOOKS = 10
"""How often validation is looked at; the look with the lowest loss is kept, that before the first step included."""
AT_ONCE = 32
"""Pictures per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Tuned:
    """A head, and what was learned inside the encoder."""

    network: Network
    inside: Mapping[str, np.ndarray]

    def state(self) -> dict[str, np.ndarray]:
        """Both, as `head.NAME` and `inside.NAME`."""
        named = (("head", self.network.state()), ("inside", self.inside))
        return {f"{part}.{name}": array for part, arrays in named for name, array in arrays.items()}


def from_state(state: Mapping[str, np.ndarray]) -> Tuned:
    """The inverse of `Tuned.state`."""
    parts: dict[str, dict[str, np.ndarray]] = {"head": {}, "inside": {}}
    for name, array in state.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = array
    dim, outputs = len(parts["head"]["mean"]), len(parts["head"]["unit"])
    network = Network(perceptron(dim, outputs), dim, outputs)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in parts["head"].items()})
    return Tuned(network.eval(), parts["inside"])


def tune(
    head: str,
    model: Any,
    trained: Mapping[str, nn.Parameter],
    rate: float,
    pictures: Pictures,
    y: np.ndarray,
    validation: tuple[Pictures, np.ndarray],
    kind: Kind,
    seed: int,
    steps: int,
) -> Tuned:
    """Learn `trained`, parameters of `model`, at `rate`, and the paper's head on the mean of the CLS tokens.

    `head` is what this is called where its share of the parameters is told. The model stays in evaluation mode, so
    that nothing is dropped at random: what is trained is what is used. Losses and the unit of a target are those of
    `network.train`; Cox has the risk sets of a batch, which holds an event. Features are standardised as they are
    before the first step.

    Raises:
        ValueError: as `network.train`.
    """
    held, held_y = validation
    before, held_before = features_of(model, pictures), features_of(model, held)
    check_rows(before, y, "training")
    check_rows(held_before, held_y, "validation")
    truth, seen, outputs = targets_of(y, held_y, kind)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(perceptron(before.shape[1], outputs), before.shape[1], outputs)
    standardise(network, before, y, kind)
    network, truth = network.to(device), truth.to(device)
    optimiser = torch.optim.AdamW(
        [{"params": [*network.parameters()], "lr": RATE}, {"params": [*trained.values()], "lr": rate}],
        weight_decay=DECAY,
    )
    both = [*network.parameters(), *trained.values()]
    counts = [sum(one.numel() for one in group) for group in (both, (*network.parameters(), *model.parameters()))]
    tell_share(head, *counts)
    best = (_loss(network, held_before, seen, kind), _state(network), _state(trained))
    looks = {round((look + 1) * steps / LOOKS) for look in range(LOOKS)}
    with progress("fit inside the encoder", steps) as advance:
        for step, (chosen, views) in enumerate(_batches(pictures, y, kind, seed, steps)):
            for group, full in zip(optimiser.param_groups, (RATE, rate), strict=True):
                group["lr"] = full * (1 - step / steps)
            images = torch.from_numpy(np.concatenate([pictures[n][v] for n, v in zip(chosen, views, strict=True)]))
            cls = model(images.float().to(device)).cls.unflatten(0, (len(chosen), -1)).mean(1)
            loss = LOSSES[kind](network(cls), truth[torch.from_numpy(chosen).to(device)])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(both, CLIP)
            optimiser.step()
            if step + 1 in looks:
                now = _loss(network, features_of(model, held), seen, kind)
                best = min(best, (now, _state(network), _state(trained)), key=lambda found: found[0])
            advance(note=f"loss {float(loss.detach()):.3f}")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in best[1].items()})
    return Tuned(network.cpu().eval(), best[2])


@torch.no_grad()
def features_of(model: Any, pictures: Pictures) -> Float[np.ndarray, "case dim"]:
    """Mean of the CLS tokens over the views of each case, float64."""
    device, found = next(model.parameters()).device, []
    for views in pictures:
        parts = torch.from_numpy(views).split(AT_ONCE)
        cls: list[Tensor] = [model(part.float().to(device)).cls.double().cpu() for part in parts]
        found.append(torch.cat(cls).mean(0).numpy())
    return np.stack(found)


def _batches(
    pictures: Pictures, y: np.ndarray, kind: Kind, seed: int, steps: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Cases of each step and their views: in passes through all cases; of survival each batch has an event."""
    rng, waiting = np.random.default_rng([seed, 7]), np.zeros(0, int)
    count, views = min(BATCH, len(y)), min(VIEWS, *(len(views) for views in pictures))
    events = np.flatnonzero(y[:, 1] > 0) if kind == "survival" else np.zeros(0, int)
    for _ in range(steps):
        if len(waiting) < count:
            waiting = rng.permutation(len(y))
        chosen, waiting = waiting[:count].copy(), waiting[count:]
        if len(events) and not np.isin(chosen, events).any():
            chosen[0] = rng.choice(events)
        yield chosen, [np.sort(rng.choice(len(pictures[n]), views, replace=False)) for n in chosen]


@torch.no_grad()
def _loss(network: Network, features: Float[np.ndarray, "case dim"], truth: Tensor, kind: Kind) -> float:
    device = network.mean.device
    return float(LOSSES[kind](network(torch.from_numpy(features).float().to(device)), truth.to(device)))


def _state(learned: nn.Module | Mapping[str, nn.Parameter]) -> dict[str, np.ndarray]:
    tensors = learned.state_dict() if isinstance(learned, nn.Module) else learned
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
