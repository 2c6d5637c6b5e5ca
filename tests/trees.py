"""Miniature copies of published layouts: empty files and small tables, since adapters read names and cells only."""

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
    lines = [separator.join(str(cell) for cell in line) for line in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
