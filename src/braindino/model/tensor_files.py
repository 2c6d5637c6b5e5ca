"""Weights of others, read without running anything: safetensors, or torch files through the restricted unpickler only.

A torch file (.pth, .pt, .bin, .ckpt) is a pickle, and a pickle is a program. Here it is opened with `weights_only`,
which knows tensors and plain data; there is no second way in for a file that wants more. Its parts are held against
their CRC-32 first. safetensors has no checksum.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch

TORCH = (".pth", ".pt", ".bin", ".ckpt")


def read_tensors(path: Path) -> dict[str, Any]:
    """Everything in a file (or a folder of transformers) under dotted names: tensors, and what else stands among them.

    Raises:
        ValueError: no such file, an unknown kind of file, a damaged one, or one with more than tensors and plain data.
    """
    path = Path(path)
    if path.is_dir():
        parts = [_safetensors(file) for file in _shards(path)]
        return {name: tensor for part in parts for name, tensor in part.items()}
    if not path.is_file():
        raise ValueError(f"no file of weights {path}")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in TORCH:
        return _torch(path)
    raise ValueError(
        f"{path}: weights are read from .safetensors or {', '.join(TORCH)}, got {path.suffix or 'no suffix'!r}"
    )


def read_json_beside(path: Path) -> dict[str, Any]:
    """`config.json` of a folder, or beside a file; empty where there is none.

    Raises:
        ValueError: it is not a JSON object.
    """
    file = path / "config.json" if path.is_dir() else path.with_name("config.json")
    if not file.is_file():
        return {}
    return _json_object(file)


def _json_object(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return data


def _shards(folder: Path) -> list[Path]:
    """The weights of a transformers folder: one file, or those that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = _json_object(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise ValueError(f"{index} must have a weight_map of keys to names of files in the same folder")
    return [folder / name for name in sorted(set(names.values()))]


def _safetensors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"no file of weights {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut off: {error}") from None


def _torch(path: Path) -> dict[str, Any]:
    try:
        _verify_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises anything at all
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {wanted[1]}" if wanted else f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and is not opened, since such a file can run code "
            f"({what}); get it again, or open it where you trust it and save its state dict alone, as .safetensors"
        ) from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return _flatten(content)


def _verify_archive(path: Path) -> None:
    """Raises ValueError where a part of a zip archive differs from its CRC-32, which torch does not look at."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("it unpacks to more than it holds")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{damaged} differs from its CRC-32")


def _flatten(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested dicts under dotted names, each dict once, however often it occurs."""
    flat: dict[str, Any] = {}
    met: set[int] = {id(content)}
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    while waiting:
        prefix, mapping = waiting.pop()
        for key, value in mapping.items():
            name = f"{prefix}{key}"
            if not isinstance(value, Mapping):
                flat[name] = value
            elif id(value) not in met:
                met.add(id(value))
                waiting.append((f"{name}.", value))
    return flat
