"""Plug-ins by file name: the folder is the registry.

A plug-in is one file in `encoders/`, `heads/`, `cohorts/`, `tasks/` or `perturbations/`; its name is the
file's name and its contract stands in the folder's `__init__`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from pathlib import Path
from types import ModuleType

KINDS = ("encoders", "heads", "cohorts", "tasks", "perturbations")


def names(kind: str) -> tuple[str, ...]:
    """Names of all plug-ins of one kind, sorted, without importing any of them."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of plug-in {kind!r}{suggest(kind, KINDS)}")
    folder = Path(__file__).parent / kind
    return tuple(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")))


def load(kind: str, name: str) -> ModuleType:
    """Import one plug-in by name.

    Raises:
        ValueError: no such kind or no such plug-in; the message names the nearest ones.
    """
    known = names(kind)
    if name not in known:
        raise ValueError(f"unknown {kind.rstrip('s')} {name!r}{suggest(name, known)}")
    return importlib.import_module(f"braindino.{kind}.{name}")


def summary(kind: str, name: str) -> str:
    """First line of a plug-in's docstring, read without importing it (so `list` needs no torch)."""
    if name not in names(kind):
        load(kind, name)
    source = (Path(__file__).parent / kind / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def variants(kind: str, name: str) -> tuple[str, ...]:
    """The constant `VARIANTS` of a plug-in, read without importing it; () where it has none or computes it."""
    source = (Path(__file__).parent / kind / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "VARIANTS":
            try:
                return tuple(ast.literal_eval(node.value))  # type: ignore[attr-defined]
            except ValueError:
                return ()
    return ()


def chosen(name: str, variant: str, known: tuple[str, ...]) -> str:
    """One of the `known` variants of the plug-in `name`; "" is the first.

    Raises:
        ValueError: no such variant; the message names the nearest ones.
    """
    if variant and variant not in known:
        raise ValueError(f"unknown variant {variant!r} of {name}{suggest(variant, known)}")
    return variant or known[0]


def suggest(got: str, known: tuple[str, ...] | list[str]) -> str:
    """The end of an error message: the nearest known names, or all of them."""
    near = difflib.get_close_matches(got, known, n=2, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; known: {', '.join(known) or 'none'}"
