"""Nothing is written in place, nothing is read unverified.

`atomic` is the one way in which this package writes a file: temporary file in the same folder, flush, fsync,
rename, fsync of the folder. After any crash a path holds the old content or the new one, never a part.

Every artefact folder is committed by its `record.json`, written last: the verb, its config, versions, the
fingerprints of the parents, and size and SHA-256 of each file. Readers trust committed folders only.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any

RECORD = "record.json"
LOCK = ".lock"
PLAN = ".plan.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that are the disk's, not those of the case at hand: they stop a verb."""
_FORMULA = re.compile(r"'*[=+\-@\t\r\0]")
_NUMBER = re.compile(r"[+-](\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on leaving without an exception it becomes `path` in one step.

    A crash or an exception leaves the old `path` (or none) and removes the temporary file where it can.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.tmp-{os.getpid()}")
    encoding = None if "b" in mode else "utf-8"
    newline = None if "b" in mode else "\n"
    try:
        with open(temporary, mode, encoding=encoding, newline=newline) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)  # noqa: PTH105 (the fault tests stand in for it)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say of which file it has no room for
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where it is missing) as the only process that writes there.

    The lock is the kernel's (flock on a file `.lock`), so that it ends with its process, however that dies. What a
    killed process left half-written is removed.

    Raises:
        ValueError: another process is writing there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is writing to {folder}; wait for it or choose another --out") from None
        for left_by_the_killed in folder.rglob(".*.tmp-*"):
            left_by_the_killed.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def claimed_for(folder: Path, plan: Any, what: str) -> Iterator[None]:
    """Hold `folder` for this very run, so that parts of two different runs never mix (see `claimed`).

    Args:
        folder: of the artefact; it keeps the digest of `plan` in `.plan.json`.
        plan: plain data that determines the run.
        what: of what `folder` holds parts when its plan is another one, for the message.

    Raises:
        ValueError: another process is writing there, or it holds anything that another plan, or none, began.
    """
    folder, wanted = Path(folder), digest(plan)
    _refuse_strangers(folder, wanted, what)
    with claimed(folder):
        _refuse_strangers(folder, wanted, what)  # another process may have come and gone in between
        write_json(folder / PLAN, {"plan": wanted})
        yield


def _refuse_strangers(folder: Path, wanted: str, what: str) -> None:
    marker = folder / PLAN
    if marker.is_file() and wanted not in marker.read_text(encoding="utf-8"):
        raise ValueError(f"{folder} holds parts of {what}; delete it or choose another --out")
    if not marker.is_file() and folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and was not begun by this command; choose an empty folder")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as handle:
        handle.write(data)


def write_array(path: Path, array: Any) -> None:
    """Write a numpy array as `.npy` (no pickle), atomically; `numpy.load` opens it.

    By way of memory: into a file numpy writes past Python, and does not notice when the disk is full.
    """
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with atomic(path) as handle:
        handle.write(buffer.getbuffer())


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path` as indented JSON, atomically. NaN is refused: JSON has none."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, table: Any) -> None:
    """Write a pandas table as TSV (missing = `n/a`, 9 significant digits), atomically.

    A text cell that a spreadsheet would run as a formula (leading = + - @, tab, CR, NUL, also behind apostrophes) and
    that is not a plain number gets a leading apostrophe, which `read_table` takes off again.
    """
    import pandas as pd

    safe = table.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [_defuse(cell) for cell in safe[column]]
    form: dict[str, Any] = {
        "sep": "\t",
        "index": False,
        "na_rep": "n/a",
        "float_format": "%.9g",
        "lineterminator": "\n",
    }
    text = safe.to_csv(**form)
    if "\r" in text:  # ends a row for a reader, unless it is quoted
        text = safe.to_csv(**form, quoting=csv.QUOTE_ALL)
    write_bytes(path, text.encode())


def read_table(path: Path, text: Sequence[str] = ()) -> Any:
    """Read a TSV written by `write_table` (or a BIDS one); the columns in `text` stay strings.

    Raises:
        ValueError: the file is missing, empty or not a table.
    """
    import pandas as pd

    if not Path(path).is_file():
        raise ValueError(f"no table {path}")
    data = Path(path).read_bytes()
    form: dict[str, Any] = {"dtype": dict.fromkeys(text, str), "na_values": ["n/a"], "keep_default_na": False}
    form["engine"] = "python" if b"\0" in data else "c"  # pandas' fast one ends a cell at a NUL
    try:
        table = pd.read_csv(io.BytesIO(data), sep="\t", **form).fillna(dict.fromkeys(text, ""))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a tab-separated table: {error}") from None
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = [_fused(cell) for cell in table[column]]
    return table


def _defuse(cell: Any) -> Any:
    return "'" + cell if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _fused(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def require_room(folder: Path, needed: int, what: str, remedy: str) -> str:
    """A sentence on how much `what` will take of the disk of a folder, and how much of it is free.

    Raises:
        ValueError: not enough is free; the message has both sizes, and the remedy.
    """
    there = free_bytes(folder)
    if needed > there:
        raise ValueError(f"{what} are {_bytes(needed)}, but {folder} has {_bytes(there)} free; {remedy}")
    return f"{what} are {_bytes(needed)}; {_bytes(there)} are free in {folder}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(data: Any) -> str:
    """SHA-256 of plain data in canonical JSON: equal for equal configs on every machine."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_record(
    folder: Path,
    verb: str,
    config: Any,
    *,
    parents: Mapping[str, str] | None = None,
    files: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Commit `folder`: hash `files` (default: every visible file in it) and write `record.json` last.

    Args:
        folder: the artefact, complete but for its record.
        verb: what made it.
        config: plain data that, with the parents, determines the content.
        parents: role to fingerprint of what it was made from (see `fingerprint`).
        files: names relative to `folder`.
        facts: anything worth telling a reader (counts, seconds); not part of the fingerprint.
    """
    folder = Path(folder)
    names = sorted(files if files is not None else _visible_files(folder))
    record = {
        "verb": verb,
        "config": config,
        "parents": dict(parents or {}),
        "files": {name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names},
        "facts": dict(facts or {}),
        "versions": versions(),
    }
    write_json(folder / RECORD, record)
    return record


def read_record(folder: Path, verb: str | None = None, *, verify: bool = True) -> dict[str, Any]:
    """The record of a committed folder; with `verify`, every file must have its recorded size and hash.

    Raises:
        ValueError: no record (unfinished or foreign folder), another verb's folder, or a changed file.
    """
    folder = Path(folder)
    path = folder / RECORD
    if not path.is_file():
        what = "does not exist" if not folder.exists() else f"has no {RECORD} (unfinished, or not made by braindino)"
        by = f"'braindino {verb}'" if verb else "the verb that makes it"
        raise ValueError(f"{folder} {what}; run {by} to completion first")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = all(name in record for name in ("verb", "config", "parents", "facts"))
        files = [(name, {"size": known["size"], "sha256": known["sha256"]}) for name, known in record["files"].items()]
        if not whole or any(".." in PurePosixPath(name).parts or name.startswith("/") for name, _ in files):
            raise ValueError("a part is missing, or a file lies outside of the folder")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged; delete {folder} and make it again") from None
    if verb is not None and record.get("verb") != verb:
        raise ValueError(f"{folder} was made by 'braindino {record.get('verb')}', expected one made by '{verb}'")
    if verify:
        for name, known in files:
            file = folder / name
            if not file.is_file() or file.stat().st_size != known["size"] or sha256(file) != known["sha256"]:
                raise ValueError(f"{file} is missing or differs from its record; delete {folder} and make it again")
    return dict(record)


def fingerprint(record: Mapping[str, Any]) -> str:
    """What identifies an artefact: verb, config, parents and file hashes, but neither versions nor facts."""
    return digest({key: record[key] for key in ("verb", "config", "parents", "files")})


def fingerprint_of(folder: Path) -> str:
    """The fingerprint of a committed folder, whose files are not read.

    Raises:
        ValueError: not a committed folder.
    """
    return fingerprint(read_record(folder, verify=False))


def is_done(folder: Path, verb: str, config: Any | None, parents: Mapping[str, str] | None = None) -> bool:
    """True where `folder` is committed, intact, and was made by the same verb, config (None: any) and parents."""
    try:
        record = read_record(folder, verb)
    except ValueError:
        return False
    same_config = config is None or digest(record["config"]) == digest(config)
    return same_config and record["parents"] == dict(parents or {})


def _visible_files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [p.as_posix() for p in paths if p.name != RECORD and not any(part.startswith(".") for part in p.parts)]


@cache
def versions() -> dict[str, str]:
    """Versions of this package, its commit where known, Python and the libraries that can change a number."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("braindino", "torch", "numpy", "scipy", "nibabel", "scikit-learn", "opencv-python-headless"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
        if answer.returncode == 0:
            found["commit"] = answer.stdout.strip()
    return found
