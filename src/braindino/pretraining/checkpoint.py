"""Training state on disk: tensors and JSON only, atomic, the last two kept, verified before it is believed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from braindino.pretraining.networks import Network
from braindino.progress import note
from braindino.record import read_record, write_bytes, write_record

KEEP = 2


@dataclass(frozen=True)
class State:
    """Everything that changes from step to step; what is random is a function of the step and needs no state."""

    student: Network
    teacher: Network
    optimiser: torch.optim.AdamW


def save_checkpoint(run: Path, step: int, state: State, config: Any) -> None:
    """Write `checkpoints/<step>` (committed by its record, written last) and drop all but the newest `KEEP`."""
    folder = run / "checkpoints" / f"{step:07d}"
    write_bytes(folder / "state.safetensors", save(_tensors(state)))
    write_record(folder, "checkpoint", config, facts={"step": step})
    for old in sorted((run / "checkpoints").iterdir())[:-KEEP]:
        shutil.rmtree(old)


def load_checkpoint(run: Path, state: State, config: Any) -> int:
    """Load the newest checkpoint that is complete and intact into `state`; the number of steps done, 0 without any.

    One that is not is passed over, which is said on stderr.

    Raises:
        ValueError: the checkpoints belong to a run with another config.
    """
    for folder in sorted((run / "checkpoints").glob("[0-9]*"), reverse=True):
        try:
            record = read_record(folder, "checkpoint")
        except ValueError:  # half-written when the run was killed: the one before it is whole
            note(f"checkpoint {folder} is half-written or damaged; going on from the one before it")
            continue
        if record["config"] != config:
            raise ValueError(f"{run} holds a run with another config; choose another --out or delete it")
        _restore(state, load_file(folder / "state.safetensors"))
        return int(record["facts"]["step"])
    return 0


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    tensors |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        for key, value in state.optimiser.state[parameter].items():
            tensors[f"optimiser.{name}.{key}"] = value
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _restore(state: State, tensors: dict[str, Tensor]) -> None:
    state.student.load_state_dict(_part(tensors, "student."))
    state.teacher.load_state_dict(_part(tensors, "teacher."))
    for name, parameter in state.student.named_parameters():
        state.optimiser.state[parameter] = _part(tensors, f"optimiser.{name}.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
