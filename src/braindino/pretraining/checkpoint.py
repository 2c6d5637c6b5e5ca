"""Training state on disk: tensors and JSON only, atomic, the last two kept, verified before it is believed.

One process, or DDP, whose ranks all hold the same, writes `state.safetensors`. With FSDP every rank writes its own
part (torch.distributed.checkpoint in its safetensors form, no pickle). Either is read by any number of processes.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from braindino.model.vit import VisionTransformer
from braindino.pretraining.networks import Network
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.step import Centres
from braindino.progress import note
from braindino.record import read_record, write_bytes, write_record

KEEP = 2
WHOLE = "state.safetensors"


@dataclass(frozen=True)
class State:
    """Everything that changes from step to step; what is random is a function of the step and needs no state."""

    student: Network
    teacher: Network
    optimiser: torch.optim.AdamW
    centres: Centres | None = None
    gram_teacher: VisionTransformer | None = None
    """Where `loss.gram_refresh` lets it change; else it is what the config names and no state."""


def save_checkpoint(run: Path, step: int, state: State, config: Any, ranks: Ranks) -> None:
    """Write `checkpoints/<step>` (committed by its record, written last) and drop all but the newest `KEEP`.

    Every rank calls it.
    """
    folder, tensors = run / "checkpoints" / f"{step:07d}", _tensors(state)
    if ranks.first and folder.exists():
        shutil.rmtree(folder)  # half-written by a run that was killed, perhaps with another number of ranks
    ranks.wait()
    if any(isinstance(value, DTensor) for value in tensors.values()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state_dict_saver.save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        ranks.wait()
    elif ranks.first:
        write_bytes(folder / WHOLE, save(tensors))
    if ranks.first:
        files = [path.name for path in folder.glob("*.safetensors")]
        write_record(folder, "checkpoint", config, files=files, facts={"step": step})
        for old in sorted((run / "checkpoints").iterdir())[:-KEEP]:
            shutil.rmtree(old)
    ranks.wait()


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
            note(f"checkpoint {folder.name} is half-written or damaged; going on from the one before it")
            continue
        if record["config"] != config:
            raise ValueError(
                f"{run} holds a run with another config, corpus or initial; choose another --out or delete it"
            )
        if not (folder / WHOLE).is_file() or any(isinstance(p, DTensor) for p in state.student.parameters()):
            _restore_parts(state, folder)
        else:
            _restore(state, load_file(folder / WHOLE))
        return int(record["facts"]["step"])
    return 0


def load_teacher(folder: Path, backbone: VisionTransformer) -> None:
    """Fill `backbone` with the EMA teacher's of a checkpoint, written whole or in parts; the model must be the same."""
    tensors = {f"teacher.backbone.{name}": value for name, value in backbone.state_dict().items()}
    _load(folder, tensors, alone=True)


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    tensors |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        for key, value in state.optimiser.state[parameter].items():
            tensors[f"optimiser.{name}.{key}"] = value
    if state.gram_teacher is not None:
        tensors |= {f"gram_teacher.{name}": value for name, value in state.gram_teacher.state_dict().items()}
    if state.centres is not None:
        tensors |= {f"centres.{name}": value for name, value in vars(state.centres).items()}
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _restore(state: State, tensors: dict[str, Tensor]) -> None:
    state.student.load_state_dict(_part(tensors, "student."))
    state.teacher.load_state_dict(_part(tensors, "teacher."))
    if state.gram_teacher is not None:
        state.gram_teacher.load_state_dict(_part(tensors, "gram_teacher."))
    for name, parameter in state.student.named_parameters():
        moments = _part(tensors, f"optimiser.{name}.")
        state.optimiser.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    for name, value in _part(tensors, "centres.").items():
        getattr(state.centres, name).copy_(value)


def _restore_parts(state: State, folder: Path) -> None:
    """Each rank reads what it holds, whatever the number of ranks that wrote it."""
    for parameter in state.student.parameters():
        state.optimiser.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    _load(folder, _tensors(state), alone=not torch.distributed.is_initialized())


def _load(folder: Path, tensors: dict[str, Tensor], *, alone: bool) -> None:
    """Fill tensors by name, in place; `alone`: without the other ranks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state_dict_loader.load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
