"""Build the cases of a cohort, and collect what had to be left out or decided on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from braindino.types import Case, Scan

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR", "PDw", "T2starw")
"""Contrasts in the order in which the scans of a case stand."""

Tell: TypeAlias = Callable[[str], None]
"""Takes one sentence about the cohort: an omission, a conflict, a decision."""


@dataclass(frozen=True)
class Notes:
    """What happened to which subjects, by kind: nothing is left out without an entry here."""

    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Remember that `kind` (a phrase such as "no age") holds for `name`."""
        self.kinds.setdefault(kind, []).append(name)

    def tell(self, tell: Tell) -> None:
        """One line per kind with its count and every name, in the order of the kinds' first entries."""
        for kind, names in self.kinds.items():
            tell(f"{kind}: {len(names)} ({', '.join(sorted(names))})")


def make_case(
    cohort: str,
    subject: str,
    images: Mapping[str, Path],
    *,
    session: str = "",
    site: str = "",
    participant: Mapping[str, Any] | None = None,
    brain_mask: Path | None = None,
    label_map: Path | None = None,
) -> Case:
    """A session's case from its images by contrast; values of `participant` that are None or "" are left out."""
    order = sorted(images, key=lambda name: (CONTRASTS.index(name) if name in CONTRASTS else len(CONTRASTS), name))
    scans = tuple(Scan(cohort, subject, name, images[name], session, site, brain_mask, label_map) for name in order)
    row = {key: value for key, value in (participant or {}).items() if value is not None and value != ""}
    return Case(subject, scans, session, site, row)


def first_of(paths: list[Path], what: str, notes: Notes) -> Path:
    """The first by name of several files that could be the same thing; the others are noted."""
    chosen, *others = sorted(paths)
    for other in others:
        notes.add(f"left out, {chosen.name} is taken for {what}", other.name)
    return chosen


def ordered(cases: list[Case], root: Path, expected: str) -> tuple[Case, ...]:
    """The cases by subject and session.

    Raises:
        ValueError: there are none; the message says what was expected below `root`.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected one with {expected}")
    if not cases:
        raise ValueError(f"{root} holds nothing of this cohort; expected {expected}")
    return tuple(sorted(cases, key=lambda case: (case.subject, case.session)))
