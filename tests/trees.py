"""Miniature copies of published layouts: empty files and small tables, since adapters read names and cells only."""

import csv
from pathlib import Path


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
    return {case.name: case for case in found}, told
