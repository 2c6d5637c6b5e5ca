"""What the page tells of a corpus: the only place of the report that knows how a corpus is read.

Everything is counted from the table of scans; of the millions of slices only the pictured ones are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

if TYPE_CHECKING:
    import pandas as pd

    from braindino.corpus.shards import Corpus
    from braindino.volume.recipe import Recipe

TILES = 24
OLDEST = 89.0
"""Years; people above are not told apart (BIDS caps ages there, since so few people are that old)."""


@dataclass(frozen=True)
class Tile:
    """One slice of the corpus, without its neighbours."""

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
        middle = corpus.read(number)[corpus.recipe.neighbours]
        tiles.append(Tile(str(scans["cohort"].iloc[row]), str(scans["contrast"].iloc[row]), middle))
    return CorpusView(scans, corpus.overlaps, tuple(tiles), corpus.recipe)


def chosen_slices(scans: pd.DataFrame, seed: int) -> list[tuple[int, int]]:
    """Row of its scan and number of each of at most `TILES` slices, by cohort and contrast.

    The draw depends on `seed` alone: the cohorts take turns, and within a cohort its contrasts, both in a random order,
    and each gives one random slice.
    """
    rng = np.random.default_rng(seed)
    cohorts = {str(name): np.asarray(rows) for name, rows in scans.groupby("cohort", sort=True).indices.items()}
    turns = []
    for cohort, of_cohort in zip(cohorts, rng.permutation(len(cohorts)).tolist(), strict=True):
        own = []
        parts = scans.iloc[cohorts[cohort]].groupby("contrast", sort=True).indices
        for of_contrast, (contrast, rows) in zip(rng.permutation(len(parts)).tolist(), parts.items(), strict=True):
            drawn = _draw(scans, cohorts[cohort][np.asarray(rows)], rng)
            own += [(turn, of_contrast, (cohort, str(contrast)), *one) for turn, one in enumerate(drawn)]
        turns += [(turn, of_cohort, *one) for turn, (_, _, *one) in enumerate(sorted(own))]
    chosen = sorted((kind, turn, row, number) for turn, _, kind, row, number in sorted(turns)[:TILES])
    return [(row, number) for _, _, row, number in chosen]


def _draw(scans: pd.DataFrame, rows: Int[np.ndarray, " scan"], rng: np.random.Generator) -> list[tuple[int, int]]:
    """At most `TILES` different slices of some scans: row and number."""
    first, counts = scans["first"].to_numpy()[rows], scans["slices"].to_numpy()[rows]
    ends = np.cumsum(counts)
    places = rng.choice(ends[-1], min(TILES, int(ends[-1])), replace=False)
    which = np.searchsorted(ends, places, side="right")
    numbers = first[which] + places - (ends - counts)[which]
    return list(zip(rows[which].tolist(), numbers.tolist(), strict=True))


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
