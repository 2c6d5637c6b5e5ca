"""What goes in: scans, synthetic subjects, checks, plug-ins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from braindino import catalog
from braindino.synthesis.config import SynthesisConfig
from braindino.verbs.flags import Out, Sources
from braindino.volume.recipe import Recipe


@dataclass(frozen=True)
class Prepare:
    """Scans to a corpus of axial slices: read verified, brain mask, z-score, resample in mm, cut, write shards."""

    sources: Sources
    """BIDS trees, folders of NIfTI files, single files, COHORT=PATH (see `braindino list cohorts`), or a .toml
    file with a list `sources` of these."""
    out: Out
    """The corpus. A killed run goes on where it stopped; a finished one is not repeated."""
    recipe: Recipe = field(default_factory=Recipe)
    """Preprocessing; it travels with the corpus and later with the encoder."""
    workers: int = 0
    """Processes; 0 means one per core."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://host:8786) whose workers do it instead; see docs/corpus.md."""
    assume_orientation: str | None = None
    """Axis codes (for example RAS) for files whose orientation codes are both 0."""
    volume: str | None = None
    """Which image where a scan holds several: number of a 4-D volume, or name of an image of a DICOM folder."""
    apart_from: tuple[str, ...] = ()
    """Test cohorts, as [COHORT=]PATH: a subject of theirs in the corpus is an error."""
    acknowledge: tuple[str, ...] = ()
    """Subjects of the corpus ("cohort/subject") that may be in a test cohort nevertheless."""
    crosswalk: Path | None = None
    """Table of names that are one person, besides those that cohorts know: columns subject and other, each
    "cohort/subject"."""

    def run(self) -> None:
        """Prepare and say what came out."""
        from braindino.pipeline.prepare import prepare
        from braindino.record import read_record

        prepare(
            self.sources,
            self.out,
            self.recipe,
            workers=self.workers,
            cluster=self.cluster,
            assume_orientation=self.assume_orientation,
            volume=self.volume,
            apart_from=self.apart_from,
            acknowledge=self.acknowledge,
            crosswalk=self.crosswalk,
        )
        facts = read_record(self.out, verify=False)["facts"]
        print(f"{facts['slices']} slices of {facts['subjects']} subjects from {facts['scans']} scans in {self.out}")
        if facts["quarantined"]:
            print(f"{facts['quarantined']} scans were left out; reasons in {self.out / 'quarantine.tsv'}")
        if facts["overlaps"]:
            print(f"{facts['overlaps']} pairs of subjects may be one person; see {self.out / 'overlaps.tsv'}")
        if facts["unread_test_scans"]:
            print(f"{facts['unread_test_scans']} scans of test cohorts could not be read and were not compared")


@dataclass(frozen=True)
class Synthesize:
    """Make synthetic subjects from real anatomy, as a BIDS derivative with every label known."""

    config: Annotated[SynthesisConfig, tyro.conf.arg(name="")]
    """How many of which group, from which anatomy."""
    out: Out
    """The cohort's folder. A killed run goes on where it stopped; a finished subject is not made again."""

    def run(self) -> None:
        """Synthesize and say where."""
        from braindino.pipeline.synthesize import synthesize

        print(f"synthetic cohort in {synthesize(self.out, self.config)}")


@dataclass(frozen=True)
class Check:
    """What is wrong with an input and what to do: a scan, a cohort's folder, a config, a checkpoint, any artefact."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[COHORT=]PATH")]
    """Files or folders."""
    assume_orientation: str | None = None
    """Axis codes (for example RAS) for scans whose orientation codes are both 0."""
    volume: str | None = None
    """Which image where a scan holds several: number of a 4-D volume, or name of an image of a DICOM folder."""

    def run(self) -> None:
        """Check each; exit 1 if any has a problem."""
        from braindino.pipeline.check import check

        choices = {"assume_orientation": self.assume_orientation, "volume": self.volume}
        if problems := [line for path in self.paths for line in check(path, **choices)]:
            raise SystemExit("\n".join(problems))


@dataclass(frozen=True)
class List:
    """What plug-ins exist: encoders, heads, cohorts, tasks, perturbations."""

    kind: Annotated[str, tyro.conf.Positional] = ""
    """One kind; default: all of them."""

    def run(self) -> None:
        """Print names and first lines."""
        for kind in [self.kind] if self.kind else catalog.KINDS:
            print(f"{kind}:")
            for name in catalog.names(kind):
                print(f"  {name:<22}{catalog.summary(kind, name)}")
                if len(variants := catalog.variants(kind, name)) > 1:
                    print(f"  {'':<22}--variant {' | '.join(variants)} (the first is the default)")
