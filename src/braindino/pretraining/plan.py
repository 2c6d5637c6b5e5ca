"""What a run needs on a given machine: memory per rank, operations per step, days. No torch, no corpus."""

from __future__ import annotations

from dataclasses import dataclass

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.flops import Part, step_flops
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.memory import Memory, rank_memory
from braindino.pretraining.size import check_passes, parameters, work

USABLE = 0.9
"""Share of a GPU's memory that a run may plan with; the rest is for the context, workspaces and fragments."""
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Plan:
    """A run on a machine. With mixed crop sizes: work is the mean over steps, memory that of the largest step."""

    parameters: dict[str, int]
    """Of the student, by module."""
    rank_batch: int
    """Slices per step and rank."""
    micro_batch: int
    """Slices that go through the student of a rank at once."""
    largest: int
    """Largest micro-batch that fits and that KoLeo's groups and SIGReg allow; 0 if none does."""
    memory: Memory
    """Of a rank at `micro_batch`."""
    usable: float
    """Bytes of a GPU that may be filled."""
    tokens: dict[str, float]
    """Per step, all ranks, by network and kind of crop."""
    parts: tuple[Part, ...]
    """FLOPs per step, all ranks."""
    flops: float
    """Of the whole run."""
    days: float
    """At the stated efficiency."""
    seen: int
    """Slices, counted as often as they are seen."""

    @property
    def fits(self) -> bool:
        """Whether the peak stays within what may be filled."""
        return self.memory.peak <= self.usable


def plan(config: PretrainConfig, hardware: Hardware) -> Plan:
    """Plan a run: days = FLOPs of all steps / (gpus x peak x efficiency).

    Raises:
        ValueError: the batch cannot be shared out evenly among the ranks or into micro-batches, KoLeo's groups of
            neighbours do not lie within a pass, or SIGReg's batch does not go through in one.
    """
    hardware = hardware.used_by(config.compute)
    if config.batch_size % hardware.gpus:
        raise ValueError(f"batch_size {config.batch_size} is no multiple of --gpus {hardware.gpus}; change one of them")
    rank_batch = config.batch_size // hardware.gpus
    if hardware.micro_batch and rank_batch % hardware.micro_batch:
        raise ValueError(f"--micro-batch {hardware.micro_batch} does not divide the {rank_batch} slices of a rank")
    check_passes(config, hardware.micro_batch or rank_batch, hardware.gpus)
    usable = USABLE * hardware.gpu_memory * 2**30
    divisors = [size for size in range(1, rank_batch + 1) if _allowed(config, size, rank_batch, hardware.gpus)]
    found = {size: _memory(config, hardware, size, rank_batch) for size in divisors}
    largest = max((size for size in divisors if found[size].peak <= usable), default=0)
    micro_batch = hardware.micro_batch or largest or divisors[0]
    parts = _parts(config, hardware, micro_batch)
    total = config.steps * sum(part.total for part in parts)
    return Plan(
        parameters=parameters(config),
        rank_batch=rank_batch,
        micro_batch=micro_batch,
        largest=largest,
        memory=found[micro_batch],
        usable=usable,
        tokens=_tokens(config),
        parts=parts,
        flops=total,
        days=total / (hardware.gpus * hardware.peak_flops * hardware.efficiency) / DAY_SECONDS,
        seen=config.steps * config.batch_size,
    )


def _allowed(config: PretrainConfig, micro_batch: int, rank_batch: int, ranks: int) -> bool:
    """Whether training would take a micro-batch."""
    if rank_batch % micro_batch:
        return False
    try:
        check_passes(config, micro_batch, ranks)
    except ValueError:
        return False
    return True


def _memory(config: PretrainConfig, hardware: Hardware, micro_batch: int, rank_batch: int) -> Memory:
    """Memory of the largest of the steps."""
    sizes = config.crops.shares
    works = [(work(config, micro_batch, size), work(config, rank_batch, size)) for size in sizes]
    return max((rank_memory(config, hardware, *pair) for pair in works), key=lambda memory: memory.peak)


def _parts(config: PretrainConfig, hardware: Hardware, micro_batch: int) -> tuple[Part, ...]:
    """FLOPs of a mean step of all ranks."""
    rounds = config.batch_size / micro_batch
    by_size = [
        (size[3] * rounds, step_flops(config, work(config, micro_batch, size), checkpointing=hardware.checkpointing))
        for size in config.crops.shares
    ]
    return tuple(
        Part(
            same[0].name,
            sum(weight * part.forward for (weight, _), part in zip(by_size, same, strict=True)),
            sum(weight * part.backward for (weight, _), part in zip(by_size, same, strict=True)),
        )
        for same in zip(*(parts for _, parts in by_size), strict=True)
    )


def _tokens(config: PretrainConfig) -> dict[str, float]:
    """Tokens of a mean step of all ranks."""
    totals: dict[str, float] = {}
    for size in config.crops.shares:
        step = work(config, config.batch_size, size)
        crops = {"student, global crops": step.teacher, "teacher": step.teacher}
        crops |= {"student, local crops": step.student[1]} if len(step.student) > 1 else {}
        crops |= {"Gram teacher": step.gram} if step.gram is not None else {}
        for name, crop in crops.items():
            totals[name] = totals.get(name, 0.0) + size[3] * crop.images * crop.tokens
    return totals
