"""Encoder files: weights with what is needed to use them, in one verified safetensors file.

The header holds the format, the transformer's config, the input recipe, where the weights come from, and
SHA-256 digests of the tensors and of the header itself. It is one JSON text under one key, since safetensors
writes several keys in random order and equal encoders shall be equal files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from braindino import record
from braindino.config import from_dict, to_dict
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer

FORMAT = "braindino-encoder"
VERSION = 1
KEY = "braindino"


def digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights and buffers, in order of the names.

    Equal before and after `fit`, whenever an encoder is said to be frozen.
    """
    return _digest(model.state_dict())


def _digest(tensors: Mapping[str, Tensor]) -> str:
    running = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return running.hexdigest()


def save_encoder(path: Path, model: VisionTransformer, recipe: dict[str, Any], source: dict[str, Any]) -> None:
    """Write `model` with its config to `path`, atomically.

    Args:
        path: a `.safetensors` file.
        model: the transformer; it is not changed.
        recipe: how a volume becomes an input of this encoder, as plain data.
        source: where the weights come from (run, step, corpus), as plain data.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {
        "format": f"{FORMAT}/{VERSION}",
        "config": to_dict(model.config),
        "recipe": recipe,
        "source": source,
        "digest": _digest(tensors),
    }
    header["header_digest"] = record.digest(header)
    text = json.dumps(header, allow_nan=False)
    record.write_bytes(path, safetensors.torch.save(tensors, metadata={KEY: text}))


def load_encoder(path: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """Read an encoder file: the transformer in eval mode, and {config, recipe, source, digest}.

    Raises:
        ValueError: no such file, not an encoder file of this package, a newer format, a file whose content
            differs from its digests, or tensors that do not fit the config.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no encoder file {path}")
    header, tensors = _read(path)
    _check_header(path, header)
    if _digest(tensors) != header["digest"]:
        raise ValueError(f"{path} is damaged: its tensors differ from their digest; copy or make it again")
    metadata = {key: header[key] for key in ("config", "recipe", "source", "digest")}
    try:
        config = from_dict(metadata["config"], ViTConfig)
    except ValueError as error:
        raise ValueError(f"{path} has a config that this version cannot read: {error}") from None
    with torch.device("meta"):
        model = VisionTransformer(config)
    problems = compare(model.state_dict(), tensors)
    if problems:
        raise ValueError(f"{path} does not fit its config:\n{problems}")
    model.load_state_dict(tensors, assign=True)
    return model.eval(), metadata


def is_encoder_file(path: Path) -> bool:
    """Whether `path` is a safetensors file with the header of this package, intact or not."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def compare(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """What keeps `got` from being loaded into `expected`: a line per key, or "" where all names and shapes fit."""
    lines = [f"  missing: {name} {tuple(expected[name].shape)}" for name in expected if name not in got]
    lines += [f"  unexpected: {name} {tuple(got[name].shape)}" for name in got if name not in expected]
    for name in expected:
        if name in got and expected[name].shape != got[name].shape:
            lines.append(f"  shape of {name}: {tuple(got[name].shape)}, expected {tuple(expected[name].shape)}")
    return "\n".join(lines)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY, "{}")
            return json.loads(text), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut off: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: its header is not JSON ({error}); copy or make it again") from None


def _check_header(path: Path, header: dict[str, Any]) -> None:
    kind, _, version = header.get("format", "").partition("/")
    if kind != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not one made by this package (no {FORMAT!r} header)")
    if not version.isdigit() or int(version) > VERSION:
        raise ValueError(f"{path} has format {kind}/{version}, this version reads up to {VERSION}; update braindino")
    rest = {key: value for key, value in header.items() if key != "header_digest"}
    if record.digest(rest) != header.get("header_digest"):
        raise ValueError(f"{path} is damaged: its header differs from its digest; copy or make it again")
