"""What the page tells of a corpus: the only place of the report that knows how a corpus is read."""

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


@dataclass(frozen=True)
class Tile:
    """One slice of the corpus, without its neighbours."""

    cohort: str
    contrast: str
    image: Float32[np.ndarray, "row column"]


@dataclass(frozen=True)
class CorpusView:
    """Counts and some slices of a corpus."""

    counts: pd.DataFrame
    """One row per cohort, subject, site and contrast: these columns, `person` (cohort/subject) and `slices`."""
    scans: pd.DataFrame
    """One row per scan: identity, spacing, orientation, quality (`scans.tsv`)."""
    overlaps: pd.DataFrame
    """Pairs of names that may be one person (`overlaps.tsv`)."""
    tiles: tuple[Tile, ...]
    recipe: Recipe

    @property
    def people(self) -> set[str]:
        """Every cohort/subject."""
        return {str(name) for name in self.counts["person"]}


def corpus_view(corpus: Corpus, seed: int = 0) -> CorpusView:
    """Count the slices of a corpus and draw `TILES` of them, as evenly from its cohorts and contrasts as they allow.

    The draw depends on `seed` alone: a random order within each cohort and contrast, then one from each in turn.
    """
    by = ["cohort", "subject", "site", "contrast"]
    index = corpus.index[by].astype(str)
    counts = index.groupby(by, sort=True).size().rename("slices").reset_index()
    counts["person"] = counts["cohort"] + "/" + counts["subject"]
    rng = np.random.default_rng(seed)
    kinds = {str(name): rng.permutation(rows) for name, rows in index.groupby(["cohort", "contrast"]).indices.items()}
    turns = sorted((turn, kind, int(row)) for kind, rows in kinds.items() for turn, row in enumerate(rows[:TILES]))
    chosen = sorted((kind, turn, row) for turn, kind, row in turns[:TILES])
    tiles = []
    for _, _, row in chosen:
        cohort, contrast = (str(value) for value in index.loc[index.index[row], ["cohort", "contrast"]])
        tiles.append(Tile(cohort, contrast, corpus.read(row)[corpus.recipe.neighbours]))
    return CorpusView(counts, corpus.scans, corpus.overlaps, tuple(tiles), corpus.recipe)
