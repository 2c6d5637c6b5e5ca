"""Strict configuration: TOML or JSON to a frozen dataclass and back.

Precedence is default < file < flag and nothing else. An unknown key is an error with a suggestion, a value
of the wrong type is an error with its dotted name, and a written config reads back to an equal one.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from braindino.catalog import suggest

T = TypeVar("T")


def read_config(path: Path, kind: type[T]) -> T:
    """Read `path` (.toml or .json) as the frozen dataclass `kind`.

    A `record.json` is understood too: its `config` entry is read, so that a run can be repeated from its record.

    Raises:
        ValueError: the file is missing, is not valid TOML or JSON, or does not fit `kind`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no config file {path}; give a .toml or .json file")
    text = path.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid {path.suffix.lstrip('.').upper() or 'JSON'}: {error}") from None
    if path.name == "record.json":
        data = data.get("config", data)
    try:
        return from_dict(data, kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_dict(data: Any, kind: type[T], where: str = "") -> T:
    """Build the dataclass `kind` from plain data, checking every key and type."""
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'the config'} must be a table of keys, got {data!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in fields:
            raise ValueError(f"unknown key '{where}{key}'{suggest(str(key), list(fields))}")
    values = {key: _convert(value, hints[key], f"{where}{key}") for key, value in data.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"missing key '{where}{name}'")
    return kind(**values)


def to_dict(config: Any) -> Any:
    """Plain data (dicts, lists, numbers, strings, None) that `from_dict` turns back into an equal config."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    if isinstance(config, dict):
        return {str(key): to_dict(value) for key, value in config.items()}
    return str(config) if isinstance(config, Path) else config


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type `hint`; int widens to float, lists become tuples, strings become paths."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"'{where}' is {value!r}{suggest(str(value), [str(a) for a in arguments])}")
        return value
    if origin is tuple:
        return _convert_tuple(value, arguments, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(value, typing.cast(type, hint), f"{where}.")
    return _convert_plain(value, hint, where)


def _convert_plain(value: Any, hint: Any, where: str) -> Any:
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"'{where}' must be of type {getattr(hint, '__name__', hint)}, got {value!r}")


def _convert_tuple(value: Any, arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"'{where}' must be a list, got {value!r}")
    items = [arguments[0]] * len(value) if arguments[1:] == (Ellipsis,) else list(arguments)
    if len(items) != len(value):
        raise ValueError(f"'{where}' must have {len(items)} entries, got {len(value)}")
    return tuple(_convert(v, h, f"{where}[{n}]") for n, (v, h) in enumerate(zip(value, items, strict=True)))


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(value, option, where)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[0])
