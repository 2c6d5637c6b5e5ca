"""What a run starts from: the teacher of a run before, or weights from a file with new heads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from braindino.config import from_dict
from braindino.model.foreign import read_foreign
from braindino.model.weights import compare, is_encoder_file, load_encoder
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.networks import Network
from braindino.record import RECORD, digest, fingerprint, read_record, sha256


def initial_network(config: PretrainConfig) -> Network | None:
    """The network that starts student, teacher and Gram teacher; None where it is to be drawn from the seed.

    Raises:
        ValueError: no such run or weights, or they do not fit the config.
    """
    if config.initial is None:
        return None
    network = Network(config, torch.Generator().manual_seed(config.seed))
    if _is_run(config.initial):
        _check_equal(config)
        network.load_state_dict(load_file(config.initial / "teacher.safetensors"))
        return network
    weights = _weights(config.initial, config)
    problems = compare(network.backbone.state_dict(), weights)
    if problems:
        raise ValueError(f"{config.initial} does not fit [model]:\n{problems}")
    network.backbone.load_state_dict(weights)
    return network


def seen_before(initial: Path | None) -> list[str] | None:
    """Digests of the subjects that the initial weights were trained on; None where a file of this package lacks them.

    Nobody for weights drawn from the seed, and for those of others, which tell nothing of brains.
    """
    if initial is None:
        return []
    path = initial / "encoder.safetensors" if _is_run(initial) else initial
    if not (path.suffix == ".safetensors" and path.is_file() and is_encoder_file(path)):
        return []
    seen: list[str] | None = load_encoder(path)[1]["source"].get("seen")
    return seen


def initial_fingerprint(initial: Path) -> str:
    """Identity of what a run starts from: that of a run's record, or the hashes of the files of weights."""
    if _is_run(initial):
        return fingerprint(read_record(initial, "pretrain"))
    if not initial.exists():
        raise ValueError(f"initial {initial} does not exist; give a run folder or a file of weights")
    files = sorted(initial.iterdir()) if initial.is_dir() else [initial]
    return digest([[path.name, sha256(path)] for path in files if path.is_file()])


def _is_run(initial: Path) -> bool:
    """Also an unfinished one, which `read_record` refuses in words."""
    return (initial / RECORD).is_file() or (initial / "checkpoints").is_dir()


def _weights(initial: Path, config: PretrainConfig) -> dict[str, Tensor]:
    if initial.suffix == ".safetensors" and initial.is_file() and is_encoder_file(initial):
        return load_encoder(initial)[0].state_dict()
    return read_foreign(initial, config.model, in_channels=config.model.in_channels)[0]


def _check_equal(config: PretrainConfig) -> None:
    assert config.initial is not None
    before = from_dict(read_record(config.initial, "pretrain")["config"], PretrainConfig)
    for name in ("model", "dino_head", "ibot_head"):
        if getattr(before, name) != getattr(config, name):
            raise ValueError(f"[{name}] differs from that of the initial run {config.initial}; make them equal")
