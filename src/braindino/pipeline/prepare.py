"""prepare: scans -> recipe -> slices -> shards. The artefact is a corpus folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindino.config import to_dict
from braindino.corpus.audit import overlaps, read_crosswalk, refuse_leakage
from braindino.corpus.build import build_shards, fingerprints, plan
from braindino.corpus.shards import QUARANTINE_COLUMNS, SCAN_TEXT, Corpus, merge_parts, open_corpus
from braindino.corpus.thumbnail import THUMBNAIL
from braindino.pipeline.sources import read_sources
from braindino.progress import progress
from braindino.record import (
    claimed_for,
    digest,
    is_done,
    read_record,
    read_table,
    write_record,
    write_table,
)
from braindino.types import Scan
from braindino.volume.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd


def prepare(
    sources: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    workers: int = 0,
    cluster: str | None = None,
    assume_orientation: str | None = None,
    volume: str | None = None,
    apart_from: Sequence[str] = (),
    acknowledge: Sequence[str] = (),
    crosswalk: Path | None = None,
) -> Corpus:
    """Build a corpus of axial slices from scans; a second call with the same input only opens it.

    What the cohorts left out or found in conflict is said on stderr and stands in the record (facts, notes).

    Args:
        sources: each `path` or `cohort=path`: a BIDS tree, a folder of NIfTI files, one file, or the folder of a
            named cohort (see `braindino list cohorts`); or a .toml file that lists such sources.
        out: folder of the corpus. A killed run goes on where it stopped.
        recipe: the preprocessing, saved with the corpus and later with the encoder.
        workers: processes; 0 means one per core.
        cluster: address of a Dask scheduler whose workers see the same folders; instead of local processes.
        assume_orientation: axis codes for files whose orientation codes are both 0.
        volume: which image of scans that hold several (see `read_volume`).
        apart_from: test cohorts, as `sources`, of whose subjects none may be in the corpus.
        acknowledge: subjects of the corpus ("cohort/subject") that may overlap with them nevertheless.
        crosswalk: table of names that are one person (columns subject, other), besides those that the cohorts
            themselves know (`participant["also_in"]`).

    Raises:
        LeakageError: a subject is in the corpus and in a test cohort, and not in `acknowledge`. What was built stays;
            the same command with `acknowledge` goes on from there.
        ValueError: no scan found, `out` holds another corpus or is being written, or every scan was quarantined.
    """
    named = read_sources(sources, volume)
    scans, parents = [scan for found in named.scans.values() for scan in found], named.fingerprints
    if not scans:
        raise ValueError("no scans to prepare; give at least one folder of MRI volumes")
    tests = read_sources(apart_from)
    out = Path(out)
    built: dict[str, Any] = {"recipe": to_dict(recipe), "assume_orientation": assume_orientation, "volume": volume}
    pairs = sorted({*named.crosswalk, *tests.crosswalk, *(read_crosswalk(crosswalk) if crosswalk else ())})
    audited = {"acknowledge": sorted(acknowledge), "crosswalk": digest(pairs) if pairs else None}
    everything = parents | {f"apart from {name}": known for name, known in tests.fingerprints.items()}
    if is_done(out, "prepare", built | audited, everything):
        return open_corpus(out)
    hands = (workers or os.cpu_count() or 1, assume_orientation, cluster)
    plan_of_run = {"config": built, "parents": parents}
    with claimed_for(out, plan_of_run, "another corpus (other scans or recipe)"):
        if not _is_built(out):
            _build(out, plan(scans), recipe, hands)
        found, unread = _audit(out, tests.scans, pairs, recipe.brain_extractor, hands)
        write_table(out / "overlaps.tsv", found)
        refuse_leakage(found, acknowledge)
        facts = _facts(out) | {"overlaps": len(found), "unread_test_scans": unread, "notes": named.notes}
        files = [path.name for pattern in ("*.npy", "*.tsv") for path in out.glob(pattern)]
        write_record(out, "prepare", built | audited, parents=everything, files=files, facts=facts)
        shutil.rmtree(out / "parts", ignore_errors=True)
    return open_corpus(out)


def _is_built(out: Path) -> bool:
    """True where shards and index are committed and intact, so that only the audit is new."""
    try:
        read_record(out, "prepare")
    except ValueError:
        return False
    return True


Hands = tuple[int, str | None, str | None]
"""What every job needs besides its scans: local processes, assumed orientation, address of a cluster."""


def _build(out: Path, shards: Sequence[Sequence[Scan]], recipe: Recipe, hands: Hands) -> None:
    """All shards, then index, thumbnails and tables."""
    count = sum(map(len, shards))
    with progress("prepare scans", count) as advance:
        for done in build_shards(out, shards, recipe, *hands):
            advance(done)
    merge_parts(out, len(shards))
    quarantine = read_table(out / "quarantine.tsv", text=QUARANTINE_COLUMNS)
    if len(quarantine) == count:
        reasons = "; ".join(quarantine["reason"].unique()[:3])
        raise ValueError(f"none of the {count} scans could be used: {reasons}")


def _facts(out: Path) -> dict[str, Any]:
    scans = read_table(out / "scans.tsv", text=SCAN_TEXT)
    quarantined = len(read_table(out / "quarantine.tsv", text=QUARANTINE_COLUMNS))
    return {
        "scans": len(scans) + quarantined,
        "quarantined": quarantined,
        "slices": int(scans["slices"].sum()),
        "subjects": len({*zip(scans["cohort"], scans["subject"], strict=True)}),
    }


def _audit(
    out: Path, tests: dict[str, list[Scan]], crosswalk: Sequence[tuple[str, str]], extractor: str, hands: Hands
) -> tuple[pd.DataFrame, int]:
    """Overlaps within the corpus and with each test cohort, and how many scans of those could not be read."""
    import pandas as pd

    mine = read_table(out / "scans.tsv", text=SCAN_TEXT)
    pictures = np.load(out / "thumbnails.npy", allow_pickle=False)
    if pictures.shape[1:] != THUMBNAIL or pictures.dtype != np.uint8:
        raise ValueError(f"{out} was built by another version, whose thumbnails differ; delete it and build it again")
    compare = partial(overlaps, mine, pictures, crosswalk=crosswalk, workers=hands[0], cluster=hands[2])
    found, unread = [compare()], 0
    for name, scans in tests.items():
        prints = []
        with progress(f"audit {name}", len(scans)) as advance:
            for seen in fingerprints(scans, extractor, *hands):
                advance()
                prints += [seen] if seen else []
        unread += len(scans) - len(prints)
        if prints:
            prints.sort(key=lambda seen: [seen[0][key] for key in ("subject", "session", "contrast", "voxel_hash")])
            others = pd.DataFrame([row for row, _ in prints])
            thumbnails = np.stack([picture for _, picture in prints])
            found.append(compare(others, thumbnails, place=name))
    filled = [part for part in found if len(part)] or found[:1]
    return pd.concat(filled, ignore_index=True), unread
