"""Who was trained on and is reported on: refused between encoder, head and the subjects of a split, or acknowledged.

An encoder of this package carries the digests of its pretraining subjects, features carry those of their encoder. Of
the weights of others it is not known whom they were trained on; their predictions say `unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from braindino.corpus.audit import LeakageError, name_digest
from braindino.record import write_json
from braindino.tasks import known, reported
from braindino.types import Case, Encoder, Features, Task

FILE = "seen.json"


@runtime_checkable
class Pretrained(Protocol):
    """What tells whom an encoder was pretrained on."""

    @property
    def seen(self) -> frozenset[str] | None:
        """Digests of the subjects; None where that is not known."""


def refuse_pretrained(task: Task, on: Features | Encoder | Pretrained, acknowledge: Sequence[str] = ()) -> None:
    """Refuse a task whose reported subjects the encoder was pretrained on, unless they are in `acknowledge`.

    Args:
        task: with its split.
        on: features, the encoder itself, or what stands for it.
        acknowledge: subjects ("cohort/subject") or whole cohorts.

    Raises:
        LeakageError: some are not acknowledged.
        ValueError: an acknowledged name that was not pretrained on, or is not reported on.
    """
    both = _both(task, on)
    strangers = sorted(set(acknowledge) - {*both, *map(_cohort, both)})
    if strangers and getattr(on, "seen", None) is not None:
        raise ValueError(
            f"acknowledge names {strangers[0]!r}, which is not reported on or was not pretrained on; leave it out"
        )
    if left := [name for name in both if not {name, _cohort(name)} & set(acknowledge)]:
        raise LeakageError(
            f"the encoder was pretrained on {len(left)} subjects of the {reported(task)} split of task {task.name} "
            f"({_some(left)}); pretrain without them (exclude), or name each, or their cohort, with --acknowledge"
        )


def concerned(task: Task, on: Features | Encoder | Pretrained, acknowledge: Sequence[str]) -> tuple[str, ...]:
    """Those of the acknowledged names that this encoder was pretrained on and this task reports on."""
    both = _both(task, on)
    return tuple(name for name in acknowledge if name in {*both, *map(_cohort, both)})


def _both(task: Task, on: Features | Encoder | Pretrained) -> list[str]:
    """Names of the reported subjects that the encoder is known to be pretrained on."""
    seen = getattr(on, "seen", None) or ()
    cases = task.cases_of(reported(task)) if seen else ()
    return sorted({name for case in cases for name in _names(case) if name_digest(name) in seen})


def refuse_trained(task: Task, subjects: Iterable[str], cohort: str) -> None:
    """Refuse a head that was trained on subjects which are no training subjects of the task.

    Args:
        task: with its split.
        subjects: that the head was trained on.
        cohort: in which they were; names in other cohorts are other people.

    Raises:
        LeakageError: there are any.
    """
    if not {*cohort.split("+")} & {*task.cohort.split("+")}:
        return
    trained = {subject for subject in subjects if task.split.get(subject, "train") != "train"}
    if trained:
        raise LeakageError(
            f"the head was trained on {len(trained)} validation or test subjects of this split ({_some(trained)}): it "
            "was fitted with another split (seed, protocol or file); fit it again with this one"
        )


def pretrained(cases: Sequence[Case], on: Features | Encoder) -> list[str]:
    """For each case whether the encoder was pretrained on its subject: yes, no, or unknown."""
    seen = getattr(on, "seen", None)
    if seen is None:
        return ["unknown"] * len(cases)
    return ["yes" if any(name_digest(name) in seen for name in _names(case)) else "no" for case in cases]


def write_seen(seen: frozenset[str] | None, folder: Path) -> Path | None:
    """Write the digests to `seen.json`, and return its path; nothing where they are not told."""
    if seen is None:
        return None
    write_json(Path(folder) / FILE, sorted(seen))
    return Path(folder) / FILE


def read_seen(folder: Path) -> frozenset[str] | None:
    """What `write_seen` wrote; None without a file."""
    path = Path(folder) / FILE
    return frozenset(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _names(case: Case) -> set[str]:
    """All names ("cohort/subject") of the person."""
    other = case.participant.get("also_in")
    return {f"{scan.cohort}/{scan.subject}" for scan in case.scans} | ({str(other)} if known(other) else set())


def _cohort(name: str) -> str:
    return name.partition("/")[0]


def _some(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")
