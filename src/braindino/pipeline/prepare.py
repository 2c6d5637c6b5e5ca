"""prepare: scans -> recipe -> slices -> shards. The artefact is a corpus folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from braindino import catalog
from braindino.config import read_config, to_dict
from braindino.corpus.build import build_shards, plan
from braindino.corpus.shards import Corpus, merge_parts, open_corpus
from braindino.layouts.cases import Tell
from braindino.progress import note, progress
from braindino.record import digest, fingerprint, is_done, read_record, write_json, write_record
from braindino.types import Case, Scan
from braindino.volume.recipe import Recipe


@dataclass(frozen=True)
class CorpusFile:
    """A file that names the sources of a corpus, so that twenty of them need not stand on a command line."""

    sources: tuple[str, ...]
    """Each `path` or `cohort=path`."""


def prepare(
    sources: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    workers: int = 0,
    assume_orientation: str | None = None,
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

    Raises:
        ValueError: no scan found, `out` holds another corpus, or every scan was quarantined.
    """
    scans: list[Scan] = []
    parents: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    for source in listed_sources(sources):
        told: list[str] = []
        cohort, cases = read_source(source, told.append)
        scans += _distinct([scan for case in cases for scan in case.scans], scans)
        key = cohort if cohort not in parents else f"{cohort} #{1 + sum(p.split(' #')[0] == cohort for p in parents)}"
        parents[key] = source_fingerprint(source, cases)
        if told:
            notes[key] = told
        for line in told:
            note(f"{key}: {line}")
    if not scans:
        raise ValueError("no scans to prepare; give at least one folder of MRI volumes")
    out = Path(out)
    config = {"recipe": to_dict(recipe), "assume_orientation": assume_orientation}
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
        "notes": notes,
    }
    files = [path.name for path in out.glob("shard-*.npy")] + ["index.tsv", "quarantine.tsv"]
    write_record(out, "prepare", config, parents=parents, files=files, facts=facts)
    return open_corpus(out)


def listed_sources(sources: Sequence[str]) -> list[str]:
    """The sources, each .toml file among them replaced by the `sources` that it lists (paths relative to the file).

    Raises:
        ValueError: no such file, not TOML, other keys than `sources`, or a list in a list.
    """
    found: list[str] = []
    for source in sources:
        if not source.endswith(".toml"):
            found.append(source)
            continue
        for inner in read_config(Path(source), CorpusFile).sources:
            name, equals, path = inner.rpartition("=")
            if path.endswith(".toml"):
                raise ValueError(f"{source} lists {inner}; expected folders and files of scans, not another list")
            found.append(f"{name}{equals}{Path(source).parent / path}")
    return found


def read_source(source: str, tell: Tell = note) -> tuple[str, tuple[Case, ...]]:
    """Cohort name and cases of `path` or `cohort=path`; without a name, BIDS trees are told from plain folders.

    Args:
        source: the words of the command line.
        tell: takes what the cohort left out or found in conflict, one line per kind.

    Raises:
        ValueError: no such path, no such cohort, or a layout that does not fit it.
    """
    name, equals, rest = source.partition("=")
    path = Path(rest if equals else source)
    if not path.exists():
        raise ValueError(f"no such file or folder: {path}")
    if not equals:
        tree = path / "participants.tsv"
        name = "bids" if path.is_dir() and (tree.is_file() or any(path.glob("sub-*"))) else "folder"
    cases = catalog.load("cohorts", name).cases(path, tell)
    return name if equals else f"{name}:{path.resolve().name}", cases


def source_fingerprint(source: str, cases: Sequence[Case]) -> str:
    """What identifies a source: its own record where it has one, else names and sizes of its files."""
    path = Path(source.partition("=")[2] or source)
    try:
        return fingerprint(read_record(path, verify=False))
    except ValueError:
        scans = [scan for case in cases for scan in case.scans]
        return digest([[s.subject, s.session, s.contrast, s.path.name, s.path.stat().st_size] for s in scans])


def _distinct(new: Sequence[Scan], known: Sequence[Scan]) -> Sequence[Scan]:
    """`new`, of which nothing may be mistaken for something of `known`, the scans of earlier sources.

    Ids of a named cohort are the same everywhere, so its scans may lie in several folders; ids of a BIDS tree, a
    folder or a manifest mean something in it only, so two of these may not have one name.

    Raises:
        ValueError: two sources without ids of their own have one name, or two scans are of one contrast of a session.
    """
    shared = {s.cohort for s in new} & {s.cohort for s in known} - {*catalog.names("cohorts"), "file"}
    if shared:
        raise ValueError(f"two sources are both called {', '.join(sorted(shared))}; rename one of the folders or files")
    seen = {(s.cohort, s.subject, s.session, s.contrast): s.path for s in known}
    for scan in new:
        if other := seen.get((scan.cohort, scan.subject, scan.session, scan.contrast)):
            what = f"{scan.contrast} of {scan.cohort}/{scan.subject} {scan.session}".strip()
            raise ValueError(f"{scan.path} and {other} are both {what}; give each scan once")
    return new


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
