"""What the page tells of a corpus: the only place of the report that knows how a corpus is read.

Everything is counted from the table of scans; of the millions of slices only the pictured ones are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

if TYPE_CHECKING:
    import pandas as pd

    from braindino.corpus.shards import Corpus
    from braindino.volume.recipe import Recipe

TILES = 24
OLDEST = 89.0
"""Years; people above are not told apart (BIDS caps ages there, since so few people are that old)."""


@dataclass(frozen=True)
class Tile:
    """One slice of the corpus."""

    cohort: str
    contrast: str
    image: Float32[np.ndarray, "row column"]


@dataclass(frozen=True)
class CorpusView:
    """Scans, subjects and some slices of a corpus."""

    scans: pd.DataFrame
    """One row per scan: `scans.tsv`, and `person` (cohort/subject). Missing age is NaN, missing sex ""."""
    overlaps: pd.DataFrame
    """Pairs of names that may be one person (`overlaps.tsv`)."""
    tiles: tuple[Tile, ...]
    recipe: Recipe

    @property
    def people(self) -> set[str]:
        """Every cohort/subject."""
        return {str(name) for name in self.scans["person"].unique()}


def corpus_view(corpus: Corpus, seed: int = 0) -> CorpusView:
    """The scans of a corpus and `TILES` random slices, as evenly from its cohorts and contrasts as they allow.

    In a corpus made before ages were kept, nobody has an age or a sex.
    """
    scans = corpus.scans.assign(person=corpus.names)
    for column, missing in (("age", np.nan), ("sex", "")):
        if column not in scans:
            scans[column] = missing
    scans["age"] = scans["age"].astype(float)
    tiles = []
    for row, number in chosen_slices(scans, seed):
        picture = np.asarray(corpus.read(number))
        middle = picture if picture.ndim == 2 else picture[len(picture) // 2]  # of a slice and its neighbours
        tiles.append(Tile(str(scans["cohort"].iloc[row]), str(scans["contrast"].iloc[row]), middle))
    return CorpusView(scans, corpus.overlaps, tuple(tiles), corpus.recipe)


def chosen_slices(scans: pd.DataFrame, seed: int) -> list[tuple[int, int]]:
    """Row of its scan and number of each of at most `TILES` slices, by cohort and contrast.

    The draw depends on `seed` alone: random slices of each cohort and contrast, then one from each in turn.
    """
    rng = np.random.default_rng(seed)
    turns = []
    for kind, rows in scans.groupby(["cohort", "contrast"], sort=True).indices.items():
        ends = np.cumsum(scans["slices"].to_numpy()[rows])
        places = rng.choice(ends[-1], min(TILES, ends[-1]), replace=False)
        turns += [(turn, kind, int(place), rows, ends) for turn, place in enumerate(places)]
    chosen = []
    for turn, kind, place, rows, ends in sorted(turns, key=lambda one: one[:2])[:TILES]:
        within = int(np.searchsorted(ends, place, side="right"))
        row = int(rows[within])
        before = int(ends[within - 1]) if within else 0
        chosen.append((kind, turn, row, int(scans["first"].iloc[row]) + place - before))
    return [(row, number) for _, _, row, number in sorted(chosen)]


def subjects_of(scans: pd.DataFrame) -> pd.DataFrame:
    """One row per subject: person, cohort, age, sex, sessions, scans, slices.

    Age is that of the first session with one, capped at `OLDEST`; sex is F, M, or "" where it is not known, another
    value, or contradicts itself.
    """
    known = scans["sex"].where(scans["sex"].isin(["F", "M"]))
    sexes = scans.assign(sex=known).groupby("person")["sex"].agg(["nunique", "first"])
    grouped = scans.groupby("person", sort=True)
    table = grouped.agg(
        cohort=("cohort", "first"), age=("age", "min"), scans=("slices", "size"), slices=("slices", "sum")
    )
    table["age"] = table["age"].clip(upper=OLDEST)
    table["sex"] = sexes["first"].where(sexes["nunique"] == 1, "")
    table["sessions"] = sessions_of(scans).groupby("person").size()
    return table.reset_index()


def sessions_of(scans: pd.DataFrame) -> pd.DataFrame:
    """One row per session: person, cohort, session, age capped at `OLDEST`."""
    rows = scans.drop_duplicates(["person", "session"])[["person", "cohort", "session", "age"]]
    return rows.assign(age=rows["age"].clip(upper=OLDEST))
