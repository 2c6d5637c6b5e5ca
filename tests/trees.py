"""Miniature copies of published layouts: empty files and small tables, since adapters read names and cells only."""

import csv
import re
from pathlib import Path

DOCS = (Path(__file__).parent.parent / "docs" / "cohorts.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\| `(\w+)` \|", DOCS.partition("## Participant columns")[2], re.MULTILINE))
"""Participant columns that docs/cohorts.md explains."""


def touch(root, *names):
    """Empty files below `root`, with their folders."""
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def sheet(path, header, rows, separator=","):
    """A text table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter=separator).writerows([header, *rows])


def told_of(cases, root):
    """Cases by name, and what was told: kind to names."""
    lines = []
    found = cases(root, lines.append)
    told = {}
    for line in lines:
        kind, _, rest = line.rpartition(": ")
        count, _, names = rest.partition(" (")
        told[kind] = names.removesuffix(")").split(", ")
        assert len(told[kind]) == int(count)
    columns = {column for case in found for column in case.participant if ":" not in case.scans[0].cohort}
    assert columns <= DOCUMENTED, f"not in docs/cohorts.md: {columns - DOCUMENTED}"
    return {case.name: case for case in found}, told
