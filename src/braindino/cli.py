"""The command line: finds the verb, fills its dataclass from the flags, runs it, turns user errors into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro

from braindino import catalog
from braindino.config import read_config
from braindino.pretraining.config import PretrainConfig
from braindino.record import versions
from braindino.verbs import VERBS
from braindino.verbs.learning import Pretrain


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. User errors are one line on stderr and exit code 1; a wrong flag is exit code 2."""
    with _leaving():
        _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    verb, rest = words[0], words[1:]
    try:
        if verb == "--version":
            print(versions()["braindino"])
        elif verb not in VERBS:
            raise ValueError(f"unknown verb {verb!r}{catalog.suggest(verb, list(VERBS))}")
        else:
            _parse(verb, rest).run()
    except KeyboardInterrupt:
        _stop(verb, "interrupted; the same command goes on where it stopped", 130)
    except BrokenPipeError:
        raise SystemExit(1) from None
    except (ValueError, OSError, MemoryError, ImportError) as error:
        if os.environ.get("BRAINDINO_TRACEBACK"):
            raise
        _stop(verb, str(error) or type(error).__name__, 1)


@contextmanager
def _leaving() -> Iterator[None]:
    """One of many ranks ends here, without taking the interpreter down.

    torch's caches hold FSDP's groups beyond their end, with threads of gloo in which C++ may abort a finished process
    while Python is finalised; torchrun then calls the whole run failed.
    """
    code: int | str | None = 0
    try:
        yield
    except SystemExit as stop:
        if "WORLD_SIZE" not in os.environ:
            raise
        code = stop.code
    if "WORLD_SIZE" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _parse(verb: str, rest: list[str]) -> Any:
    """The verb's dataclass, filled from flags; for `pretrain` on top of its config file."""
    if verb == "pretrain" and rest[:1] == ["--plan"]:
        rest = [*rest[1:2], "--plan", *rest[2:]]
    if verb == "pretrain" and rest and not rest[0].startswith("-"):
        path, rest = rest[0], rest[1:]
        return tyro.cli(
            Pretrain,
            args=rest,
            prog=f"braindino pretrain {path}",
            default=Pretrain(read_config(Path(path), PretrainConfig)),
        )
    return tyro.cli(VERBS[verb], args=rest, prog=f"braindino {verb}")


def _stop(verb: str, message: str, code: int) -> None:
    print(f"braindino {verb}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def _overview() -> str:
    lines = ["braindino VERB [flags]: from brain MRI to a frozen encoder, light heads and honest numbers", ""]
    lines += [f"  {name:<12}{(kind.__doc__ or '').splitlines()[0]}" for name, kind in VERBS.items()]
    return "\n".join([*lines, "", "braindino VERB --help tells a verb's flags; start with: braindino demo"])
