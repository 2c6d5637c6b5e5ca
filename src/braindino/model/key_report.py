"""What became of every key when weights were read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Status = Literal["taken", "transformed", "computed", "ignored", "missing", "unexpected", "wrong shape", "wrong value"]
PROBLEMS: tuple[Status, ...] = ("missing", "unexpected", "wrong shape", "wrong value")
SHOWN = 20


@dataclass(frozen=True)
class Line:
    """One key of the file, or one of our names where the file has no key for it."""

    status: Status
    key: str
    note: str = ""
    """How it was transformed or computed, why it was ignored, what was expected."""

    def __str__(self) -> str:
        return f"  {self.status}: {self.key}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Report:
    """What was read and how: dialect, size, and a line per key."""

    dialect: str
    prefix: str
    """What stands before the backbone's keys in the file."""
    size: str
    assumed: tuple[str, ...]
    """Settings that the file does not hold."""
    lines: tuple[Line, ...]

    def count(self, status: Status) -> int:
        """Number of keys with this status."""
        return sum(line.status == status for line in self.lines)

    @property
    def problems(self) -> list[Line]:
        """The lines that keep the weights from being used."""
        return [line for line in self.lines if line.status in PROBLEMS]

    def short(self) -> str:
        """One line of what was read, one per reason to ignore or compute keys, and the first problems."""
        where = f" under {self.prefix!r}" if self.prefix else ""
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("taken", "transformed", "computed", "ignored"))
        told = [f"{self.dialect} weights{where}, {self.size}: {counts}"]
        if self.assumed:
            told.append(f"  assumed: {', '.join(self.assumed)}")
        reasons = Counter((line.status, line.note) for line in self.lines if line.status in ("ignored", "computed"))
        told += [f"  {status} {count}: {note}" for (status, note), count in sorted(reasons.items())]
        told += [str(line) for line in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            told.append(f"  and {len(self.problems) - SHOWN} more problems")
        return "\n".join(told)

    def __str__(self) -> str:
        return "\n".join([self.short(), *map(str, self.lines)])
