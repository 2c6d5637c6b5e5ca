"""Who is in it twice: the same person under two names, within a corpus or in a corpus and a test cohort.

Four kinds of evidence, the strongest first: the same subject name, the same person by a crosswalk table, the same
voxels after reorientation (`voxel_hash`), and brains that resemble each other more than two people's do (`near`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from braindino.corpus.near import near
from braindino.record import read_table
from braindino.types import Volume

if TYPE_CHECKING:
    import pandas as pd

OVERLAP_COLUMNS = ("subject", "other", "place", "evidence", "similarity")


class LeakageError(ValueError):
    """A subject of a test cohort is in the corpus, and nobody has acknowledged it."""


def name_digest(name: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of "cohort/subject": how an encoder tells whom it was trained on."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def voxel_hash(volume: Volume) -> str:
    """First 16 hexadecimal digits of the SHA-256 over shape and float32 voxels in RAS.

    Equal for equal images whatever the file's name, compression, data type or order of axes.
    """
    found = hashlib.sha256(str(volume.voxels.shape).encode())
    found.update(np.ascontiguousarray(volume.voxels, "<f4").tobytes())
    return found.hexdigest()[:16]


def overlaps(
    mine: pd.DataFrame,
    pictures: UInt8[np.ndarray, "mine r a s"],
    others: pd.DataFrame | None = None,
    other_pictures: UInt8[np.ndarray, "other r a s"] | None = None,
    *,
    place: str = "corpus",
    crosswalk: Sequence[tuple[str, str]] = (),
    workers: int = 1,
    cluster: str | None = None,
) -> pd.DataFrame:
    """Pairs of subjects who seem to be one person, each pair once with its strongest evidence.

    Args:
        mine: rows of a corpus's `scans.tsv` (cohort, subject, voxel_hash).
        pictures: their thumbnails.
        others: the same of a test cohort; None looks within `mine`, where an equal name is no finding.
        other_pictures: their thumbnails.
        place: what the table calls the others.
        crosswalk: pairs of names ("cohort/subject") known to be one person, in either order; what is one person
            with one and the same third name is one person, too.
        workers: processes for the close look at likely pairs.
        cluster: address of a Dask scheduler instead.

    Returns:
        Columns `OVERLAP_COLUMNS`: subject and other ("cohort/subject"), place, evidence ("same name", "crosswalk",
        "same voxels", "near"), similarity (the resemblance of the brains where the evidence is "near").
    """
    import pandas as pd

    within = others is None
    others = mine if others is None else others
    second = pictures if other_pictures is None else other_pictures
    names, other_names = _names(mine), _names(others)
    found: dict[tuple[str, str], tuple[str, float]] = {}
    near_ones = near(names, pictures, other_names, second, workers=workers, cluster=cluster)
    for left, right, evidence, similarity in [
        *_certain(mine, others, crosswalk, within),
        *((left, right, "near", round(value, 4)) for left, right, value in near_ones),
    ]:
        pair = names[left], other_names[right]
        if within:
            pair = min(pair), max(pair)
            if pair[0] == pair[1]:
                continue
        found.setdefault(pair, (evidence, similarity))
    rows = [(*pair, place, evidence, similarity) for pair, (evidence, similarity) in sorted(found.items())]
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def _names(scans: pd.DataFrame) -> list[str]:
    return [f"{cohort}/{subject}" for cohort, subject in zip(scans["cohort"], scans["subject"], strict=True)]


def _certain(
    mine: pd.DataFrame, others: pd.DataFrame, crosswalk: Sequence[tuple[str, str]], within: bool
) -> Iterator[tuple[int, int, str, float]]:
    """Findings that need no threshold as (row of mine, row of others, evidence, NaN), the strongest kind first."""
    names, other_names = _names(mine), _names(others)
    if not within:
        yield from _joined(names, other_names, "same name")
    person = _people(crosswalk)
    yield from _joined([person.get(name, "") for name in names], [person.get(n, "") for n in other_names], "crosswalk")
    yield from _joined(list(mine["voxel_hash"]), list(others["voxel_hash"]), "same voxels")


def _people(crosswalk: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Each name of a crosswalk, and the one of its person's names that stands for all of them."""
    groups: dict[str, set[str]] = {}
    for one, two in crosswalk:
        merged = groups.get(one, {one}) | groups.get(two, {two})
        groups.update(dict.fromkeys(merged, merged))
    return {name: min(group) for name, group in groups.items()}


def _joined(keys: Sequence[str], other_keys: Sequence[str], evidence: str) -> Iterator[tuple[int, int, str, float]]:
    """Rows with equal keys; an empty key equals nothing."""
    places: dict[str, list[int]] = {}
    for row, key in enumerate(other_keys):
        places.setdefault(key, []).append(row)
    for row, key in enumerate(keys):
        if key:
            yield from ((row, other, evidence, float("nan")) for other in places.get(key, ()))


def refuse_leakage(found: pd.DataFrame, acknowledged: Sequence[str]) -> None:
    """Refuse a corpus that shares subjects with a test cohort unless each of them is named in `acknowledged`.

    Raises:
        LeakageError: some are not named.
        ValueError: an acknowledged name that overlaps with nothing.
    """
    shared = found[found["place"] != "corpus"]
    strangers = sorted(set(acknowledged) - set(shared["subject"]))
    if strangers:
        raise ValueError(f"acknowledge names {strangers[0]!r}, which shares nothing with a test cohort; leave it out")
    open_ones = shared[~shared["subject"].isin(list(acknowledged))]
    if not len(open_ones):
        return
    told = [f"{row.subject} = {row.other} of {row.place} ({row.evidence})" for row in open_ones.head(3).itertuples()]
    raise LeakageError(
        f"{open_ones['subject'].nunique()} subjects of the corpus are also in a test cohort: {', '.join(told)}"
        f"{', ...' if len(open_ones) > 3 else ''}; all are listed in overlaps.tsv. Leave their scans out, or name "
        "each with --acknowledge and exclude them when pretraining"
    )


def read_crosswalk(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of names from a table with the columns `subject` and `other`, each "cohort/subject".

    Raises:
        ValueError: no such table, columns are missing, or a cell is empty.
    """
    table = read_table(path, text=("subject", "other"))
    if not {"subject", "other"} <= set(table.columns):
        raise ValueError(
            f"{path} needs the columns subject and other (names as cohort/subject); it has {', '.join(table.columns)}"
        )
    empty = (table[["subject", "other"]] == "").any(axis=1)
    if empty.any():
        raise ValueError(f"{path}: row {int(empty.argmax()) + 1} lacks a name; fill it or delete the row")
    return tuple(zip(table["subject"], table["other"], strict=True))
