"""This process among those of a run: one alone, or the ranks that torchrun started, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others: the first batch of a cold disk takes minutes."""


@dataclass(frozen=True)
class Ranks:
    """Number of this process, how many there are, and where it computes. Alone, nothing is communicated."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """True on the one that writes and talks."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor, operation: Literal["sum", "max"]) -> Tensor:
        """Sum or elementwise maximum over all ranks, as a new tensor; no gradient."""
        if self.count == 1:
            return tensor
        result = tensor.detach().clone()
        dist.all_reduce(result, {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}[operation])
        return result

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of each number over all ranks."""
        if self.count == 1:
            return values
        total = self.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64, device=self.device), "sum")
        return dict(zip(values, (total / self.count).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """True where the flag is set on at least one rank."""
        return bool(self.all_reduce(torch.tensor(float(flag), device=self.device), "max"))

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """Rows of all ranks, which hold equally many, with gradient; and the index of this rank's first row."""
        if self.count == 1:
            return rows, 0
        joined: Tensor = _Gather.apply(rows, self.rank, self.count)  # type: ignore[no-untyped-call]
        return joined, self.rank * len(rows)

    def average(self, tensor: Tensor) -> Tensor:
        """Mean over all ranks, with gradient."""
        if self.count == 1:
            return tensor
        joined, _ = self.gather(tensor[None])
        return joined.mean(dim=0)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """All rows; the gradient of a row is the sum of what all ranks say of it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, count: int) -> Tensor:
        ctx.own = slice(rank * len(rows), (rank + 1) * len(rows))
        parts = [torch.empty_like(rows) for _ in range(count)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.own], None, None


@contextmanager
def join() -> Iterator[Ranks]:
    """The ranks that torchrun announces in the environment (RANK, WORLD_SIZE, LOCAL_RANK); without it, one alone.

    Each rank takes the GPU of its local number, where there are GPUs, and speaks NCCL; otherwise gloo on the CPU.

    Raises:
        ValueError: more ranks on this machine than GPUs.
    """
    gpus = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if gpus and local >= gpus:
        raise ValueError(f"local rank {local}, but this machine has {gpus} GPUs; start fewer processes per node")
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(device=device)
        return
    dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
