"""Slices on disk. This is the only file that knows the format.

A corpus folder holds `shard-00000.npy`, ... (float16, shape (slice, row, column), plain numpy files that
`numpy.load` opens), `index.tsv` (one row per slice), `quarantine.tsv` (scans left out, with the reason) and
`record.json` (hash of every file, the recipe, the sources).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Float32, Int

from braindino.config import from_dict
from braindino.record import fingerprint, read_record, read_table, write_array, write_table
from braindino.volume.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

INDEX_TEXT = ("cohort", "subject", "session", "site", "contrast", "slice_hash")
QUARANTINE_COLUMNS = ("cohort", "subject", "session", "contrast", "path", "reason")


@dataclass(frozen=True)
class Corpus:
    """A committed corpus, opened for random reading; shards are memory-mapped read-only."""

    folder: Path
    recipe: Recipe
    index: pd.DataFrame
    """One row per slice: shard, row, cohort, subject, session, site, contrast, position_mm, brain_share, slice_hash."""
    fingerprint: str

    def __len__(self) -> int:
        return len(self.index)

    def read(self, slice_index: int) -> Float32[np.ndarray, "row column"]:
        """One slice as float32, normalised by the recipe."""
        shard, row = self._places[slice_index]
        return np.asarray(self._shards[shard][row], np.float32)

    @cached_property
    def slices_of_subject(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Cohort and subject ("cohort/subject") to the numbers of its slices."""
        names = self.index["cohort"] + "/" + self.index["subject"]
        return {str(name): np.asarray(rows) for name, rows in names.groupby(names).indices.items()}

    @cached_property
    def _places(self) -> Int[np.ndarray, "slice 2"]:
        return self.index[["shard", "row"]].to_numpy(np.int64)

    @cached_property
    def _shards(self) -> list[Float16[np.ndarray, "slice row column"]]:
        count = int(self.index["shard"].max()) + 1
        return [np.load(self.folder / shard_name(n), mmap_mode="r", allow_pickle=False) for n in range(count)]


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus after checking every file against its record.

    Raises:
        ValueError: not a finished corpus, or a file that differs from its record.
    """
    folder = Path(folder)
    record = read_record(folder, "prepare")
    index = read_table(folder / "index.tsv", text=INDEX_TEXT)
    recipe = from_dict(record["config"]["recipe"], Recipe)
    return Corpus(folder, recipe, index, fingerprint(record))


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"shard-{number:05d}.npy"


def write_shard(
    folder: Path,
    number: int,
    slices: Float32[np.ndarray, "slice row column"],
    rows: Sequence[dict[str, Any]],
    quarantine: Sequence[dict[str, Any]],
) -> None:
    """Write one shard and then its part tables: a shard counts as written once both parts are there."""
    import pandas as pd

    write_array(folder / shard_name(number), slices.astype(np.float16))
    columns = ("shard", "row", *INDEX_TEXT[:-1], "position_mm", "brain_share", "slice_hash")
    write_table(folder / "parts" / f"quarantine-{number:05d}.tsv", pd.DataFrame(quarantine, columns=QUARANTINE_COLUMNS))
    write_table(folder / "parts" / f"index-{number:05d}.tsv", pd.DataFrame(rows, columns=list(columns)))


def is_written(folder: Path, number: int) -> bool:
    """True where shard `number` and its tables are complete (the index part is written last)."""
    return (folder / "parts" / f"index-{number:05d}.tsv").is_file()


def merge_parts(folder: Path, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Concatenate the part tables in order into `index.tsv` and `quarantine.tsv`; returns both."""
    import pandas as pd

    tables = []
    for name, text in (("index", INDEX_TEXT), ("quarantine", QUARANTINE_COLUMNS)):
        parts = [read_table(folder / "parts" / f"{name}-{n:05d}.tsv", text=text) for n in range(count)]
        filled = [part for part in parts if len(part)] or parts[:1]
        table = pd.concat(filled, ignore_index=True)
        write_table(folder / f"{name}.tsv", table)
        tables.append(table)
    return tables[0], tables[1]
