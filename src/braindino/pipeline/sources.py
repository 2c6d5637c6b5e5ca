"""Sources: the words of the command line, or a list of them in a file, to cases and scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from braindino import catalog
from braindino.config import read_config
from braindino.layouts.cases import Notes, Tell
from braindino.progress import note
from braindino.record import digest, fingerprint_of
from braindino.tasks import known
from braindino.types import Case, Scan
from braindino.volume.files import stem

PAIR = (".hdr", ".hdr.gz", ".img", ".img.gz")
MOST_YEARS = 120
"""A higher age is a mistake in the cohort's table."""


@dataclass(frozen=True)
class CorpusFile:
    """A file that names the sources of a corpus, so that twenty of them need not stand on a command line."""

    sources: tuple[str, ...]
    """Each `path` or `cohort=path`."""


@dataclass(frozen=True)
class Sources:
    """Several sources, each under its cohort's name (a second folder of one cohort as `name #2`)."""

    scans: dict[str, list[Scan]]
    fingerprints: dict[str, str]
    notes: dict[str, list[str]]
    """What its cohort left out or found in conflict, where there is anything."""
    crosswalk: list[tuple[str, str]]
    """Pairs of names ("cohort/subject") that are one person, from the cohorts' `participant["also_in"]`."""


def read_sources(sources: Sequence[str], volume: str | None = None) -> Sources:
    """The scans of every source; what a cohort tells is said on stderr and kept. `volume` as in `read_source`.

    Raises:
        ValueError: as `read_source` and `listed_sources`; two sources that have ids of their own and one name; one
            scan twice.
    """
    found = Sources({}, {}, {}, [])
    for source in listed_sources(sources):
        told: list[str] = []
        cohort, cases = read_source(source, volume, tell=told.append)
        scans = _distinct(_described(cases, told.append), [s for one in found.scans.values() for s in one])
        number = 1 + sum(name.partition(" #")[0] == cohort for name in found.scans)
        name = cohort if number == 1 else f"{cohort} #{number}"
        found.scans[name] = scans
        found.fingerprints[name] = source_fingerprint(source, cases)
        found.crosswalk.extend(_crosswalk(cases))
        if told:
            found.notes[name] = told
        for line in told:
            note(f"{name}: {line}")
    return found


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


def read_source(source: str, volume: str | None = None, *, tell: Tell = note) -> tuple[str, tuple[Case, ...]]:
    """Cohort name and cases of `path` or `cohort=path`; without a name, BIDS trees are told from plain folders.

    Args:
        source: the words of the command line.
        volume: which image of every scan is meant, for sources of 4-D files or DICOM series.
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
    if volume is not None:
        cases = tuple(replace(c, scans=tuple(replace(scan, volume=volume) for scan in c.scans)) for c in cases)
    return name if equals else f"{name}:{path.resolve().name}", cases


def read_root(word: Path | str, cohort: str, *, tell: Tell = note) -> tuple[Case, ...]:
    """The cases of a folder of `cohort`, or of the word `cohort=folder`.

    Raises:
        ValueError: no such cohort, or a folder that does not fit it.
    """
    name, equals, path = str(word).partition("=")
    if isinstance(word, Path) or not equals or "/" in name:
        name, path = cohort, str(word)
    cases: tuple[Case, ...] = catalog.load("cohorts", name).cases(Path(path), tell)
    return cases


def together(sources: Sequence[Sequence[Case]]) -> tuple[Case, ...]:
    """The cases of several sources as those of one cohort; of one source as they are.

    A subject whose name another cohort has too is called `cohort-subject` in both; its scans keep their names. A family
    is one within its cohort only.

    Raises:
        ValueError: two sources of one name that have ids of their own, or one scan twice (see `read_sources`).
    """
    if len(sources) == 1:
        return tuple(sources[0])
    seen: list[Scan] = []
    places: dict[str, set[str]] = {}
    for cases in sources:
        seen += _distinct([scan for case in cases for scan in case.scans], seen)
        for case in cases:
            places.setdefault(case.subject, set()).add(case.scans[0].cohort)
    result = []
    for case in (case for cases in sources for case in cases):
        cohort, row, subject = case.scans[0].cohort, case.participant, case.subject
        if known(row.get("family")):
            row = {**row, "family": f"{cohort}/{row['family']}"}
        if len(places[subject]) > 1:
            subject = f"{cohort.replace(':', '-')}-{subject}"
        result.append(replace(case, subject=subject, participant=row))
    return tuple(result)


def source_fingerprint(source: str, cases: Sequence[Case]) -> str:
    """What identifies a source: its own record where it has one, else names and sizes of its files."""
    path = Path(source.partition("=")[2] or source)
    try:
        return fingerprint_of(path)
    except ValueError:
        scans = [scan for case in cases for scan in case.scans]
        return digest([[s.subject, s.session, s.contrast, s.path.name, _size(s.path)] for s in scans])


def _size(path: Path) -> int:
    """Bytes of a file, of both halves of an Analyze pair, of the files of a DICOM folder.

    -1 where there is none behind its name, as of a datalad link that was not fetched.
    """
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        if path.name.endswith(PAIR):
            halves = [path.with_name(stem(path) + ending) for ending in PAIR]
            return sum(half.stat().st_size for half in halves if half.is_file())
        return path.stat().st_size
    except OSError:
        return -1


def _described(cases: Sequence[Case], tell: Tell) -> list[Scan]:
    """Every scan with age and sex from the row of its case; an age that is no number of years is told and left out."""
    scans: list[Scan] = []
    notes = Notes()
    for case in cases:
        said, sex = case.participant.get("age"), str(case.participant.get("sex", ""))
        age = said if isinstance(said, int | float) and 0 <= said <= MOST_YEARS else None
        if said is not None and age is None:
            notes.add(f"age is {str(said)!r}, not a number in [0, {MOST_YEARS}], and is left empty", case.name)
        scans += [replace(scan, age=None if age is None else float(age), sex=sex) for scan in case.scans]
    notes.tell(tell)
    return scans


def _crosswalk(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """Pairs of names that are one person, where `also_in` holds a name ("cohort/subject")."""
    pairs = set()
    for case in cases:
        other = case.participant.get("also_in")
        if known(other) and "/" in str(other):
            pairs |= {(f"{scan.cohort}/{scan.subject}", str(other)) for scan in case.scans}
    return sorted(pairs)


def _distinct(new: list[Scan], known: Sequence[Scan]) -> list[Scan]:
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
