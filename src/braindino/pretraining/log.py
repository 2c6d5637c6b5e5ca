"""`log.jsonl`: one line per step, of the steps that a checkpoint covers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from braindino.record import atomic


def read_log(path: Path, steps: int) -> list[dict[str, Any]]:
    """Entries before step `steps`; later ones were not covered by the checkpoint and will be made again."""
    if not path.is_file() or not steps:
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if entry["step"] < steps]


def write_log(path: Path, entries: list[dict[str, Any]]) -> None:
    """All entries, atomically."""
    with atomic(path, "w") as handle:
        handle.writelines(json.dumps(entry) + "\n" for entry in entries)
