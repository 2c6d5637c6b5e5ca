"""prepare: scans -> recipe -> slices -> shards. The artefact is a corpus folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from braindino.config import to_dict
from braindino.corpus.build import build_shards, plan
from braindino.corpus.shards import Corpus, merge_parts, open_corpus
from braindino.pipeline.sources import read_sources
from braindino.progress import progress
from braindino.record import digest, is_done, write_json, write_record
from braindino.volume.recipe import Recipe


def prepare(
    sources: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    workers: int = 0,
    assume_orientation: str | None = None,
    volume: str | None = None,
) -> Corpus:
    """Build a corpus of axial slices from scans; a second call with the same input only opens it.

    What the cohorts left out or found in conflict is said on stderr and stands in the record (facts, notes).

    Args:
        sources: each `path` or `cohort=path`: a BIDS tree, a folder of NIfTI files, one file, or the folder of a
            named cohort (see `braindino list cohorts`); or a .toml file that lists such sources.
        out: folder of the corpus. A killed run goes on where it stopped.
        recipe: the preprocessing, saved with the corpus and later with the encoder.
        workers: processes; 0 means one per core.
        assume_orientation: axis codes for files whose orientation codes are both 0.
        volume: which image of scans that hold several (see `read_volume`).

    Raises:
        ValueError: no scan found, a recipe that a corpus cannot hold, `out` holds another corpus, or every scan was
            quarantined.
    """
    if recipe.neighbours or recipe.least_change:
        raise ValueError(
            "a corpus holds every slice, in one channel: recipe.neighbours and recipe.least_change must be 0"
        )
    named = read_sources(sources, volume)
    scans, parents = [scan for found in named.scans.values() for scan in found], named.fingerprints
    if not scans:
        raise ValueError("no scans to prepare; give at least one folder of MRI volumes")
    out = Path(out)
    config = {"recipe": to_dict(recipe), "assume_orientation": assume_orientation, "volume": volume}
    if is_done(out, "prepare", config, parents):
        return open_corpus(out)
    _claim(out, {"config": config, "parents": parents})
    shards = plan(scans)
    with progress("prepare scans", len(scans)) as advance:
        for count in build_shards(out, shards, recipe, workers or os.cpu_count() or 1, assume_orientation):
            advance(count)
    index, quarantine = merge_parts(out, len(shards))
    if not len(index):
        reasons = "; ".join(quarantine["reason"].unique()[:3])
        raise ValueError(f"none of the {len(scans)} scans could be used: {reasons}")
    facts = {
        "scans": len(scans),
        "quarantined": len(quarantine),
        "slices": len(index),
        "subjects": int((index["cohort"] + "/" + index["subject"]).nunique()),
        "notes": named.notes,
    }
    files = [path.name for path in out.glob("shard-*.npy")] + ["index.tsv", "quarantine.tsv"]
    write_record(out, "prepare", config, parents=parents, files=files, facts=facts)
    return open_corpus(out)


def _claim(out: Path, plan_of_run: dict[str, object]) -> None:
    """Mark `out` as the place of this very run, so that parts of two different runs never mix."""
    marker = out / ".plan.json"
    wanted = digest(plan_of_run)
    if marker.is_file() and wanted not in marker.read_text(encoding="utf-8"):
        raise ValueError(
            f"{out} holds parts of another corpus (other scans or recipe); delete it or choose another --out"
        )
    if not marker.is_file() and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and was not begun by this command; choose an empty folder")
    write_json(marker, {"plan": wanted})
