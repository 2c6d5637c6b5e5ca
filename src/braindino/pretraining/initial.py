"""What a run starts from: the teacher of a run before, or weights from a file with new heads; its Gram teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from braindino.config import from_dict
from braindino.model.foreign import read_foreign
from braindino.model.vit import VisionTransformer
from braindino.model.weights import compare, is_encoder_file, load_encoder
from braindino.pretraining.checkpoint import load_teacher
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.networks import Network
from braindino.record import RECORD, digest, fingerprint, read_record, sha256


def initial_network(config: PretrainConfig) -> Network | None:
    """The network that starts student, teacher and Gram teacher (but for `gram_initial`); None: drawn from the seed.

    Raises:
        ValueError: no such run or weights, or they do not fit the config.
    """
    if config.initial is None:
        return None
    network = Network(config, torch.Generator().manual_seed(config.seed))
    if _is_run(config.initial):
        _check_equal(config, config.initial, "pretrain", ("model", "dino_head", "ibot_head"))
        network.load_state_dict(load_file(config.initial / "teacher.safetensors"))
        return network
    _fill(network.backbone, config.initial, config)
    return network


def gram_teacher(config: PretrainConfig) -> VisionTransformer | None:
    """The backbone that `gram_initial` names: the EMA teacher's of a run or a checkpoint, or a file's; None: not set.

    Raises:
        ValueError: no such run, checkpoint or weights, or they do not fit [model].
    """
    source = config.gram_initial
    if source is None:
        return None
    backbone = VisionTransformer(config.model, torch.Generator().manual_seed(config.seed))
    if _is_checkpoint(source):
        _check_equal(config, source, "checkpoint", ("model",))
        load_teacher(source, backbone)
    elif _is_run(source):
        _check_equal(config, source, "pretrain", ("model",))
        _fill(backbone, source / "encoder.safetensors", config)
    else:
        _fill(backbone, source, config)
    return backbone


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


def seen_by_gram_teacher(config: PretrainConfig) -> list[str] | None:
    """As `seen_before`, of `gram_initial`. A checkpoint names nobody: of the initial run itself [], of others None."""
    source = config.gram_initial
    if source is None or not _is_checkpoint(source):
        return seen_before(source)
    if config.initial is None or not _is_run(config.initial):
        return None
    own = read_record(config.initial, "pretrain")["facts"].get("identity")
    return [] if own == digest(read_record(source, "checkpoint")["config"]) else None


def initial_fingerprint(initial: Path) -> str:
    """Identity of what a run starts from: that of a run's or a checkpoint's record, or the hashes of the files."""
    if _is_checkpoint(initial):
        return fingerprint(read_record(initial, "checkpoint"))
    if _is_run(initial):
        return fingerprint(read_record(initial, "pretrain"))
    if not initial.exists():
        raise ValueError(f"initial or gram_initial {initial} does not exist; give a run folder or a file of weights")
    files = sorted(initial.iterdir()) if initial.is_dir() else [initial]
    return digest([[path.name, sha256(path)] for path in files if path.is_file()])


def _is_run(initial: Path) -> bool:
    """Also an unfinished one, which `read_record` refuses in words."""
    return (initial / RECORD).is_file() or (initial / "checkpoints").is_dir()


def _is_checkpoint(source: Path) -> bool:
    return (source / RECORD).is_file() and read_record(source, verify=False)["verb"] == "checkpoint"


def _fill(backbone: VisionTransformer, source: Path, config: PretrainConfig) -> None:
    weights = _weights(source, config)
    problems = compare(backbone.state_dict(), weights)
    if problems:
        raise ValueError(f"{source} does not fit [model]:\n{problems}")
    backbone.load_state_dict(weights)


def _weights(initial: Path, config: PretrainConfig) -> dict[str, Tensor]:
    if initial.suffix == ".safetensors" and initial.is_file() and is_encoder_file(initial):
        return load_encoder(initial)[0].state_dict()
    return read_foreign(initial, config.model, in_channels=config.model.in_channels)[0]


def _check_equal(config: PretrainConfig, source: Path, verb: str, parts: tuple[str, ...]) -> None:
    """The settings of a run, or of the run of a checkpoint, must be those of `config`."""
    before = from_dict(read_record(source, verb)["config"], PretrainConfig)
    for name in parts:
        if getattr(before, name) != getattr(config, name):
            raise ValueError(f"[{name}] differs from that of the run before, {source}; make them equal")
