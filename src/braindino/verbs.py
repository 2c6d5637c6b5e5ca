"""One dataclass per verb: its fields are the flags, `run` calls the verb's function and says what came out.

Nothing here imports torch; each verb imports what it needs when it runs, so that `--help` and `list` start at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from braindino import catalog
from braindino.pretraining.config import PretrainConfig
from braindino.synthesis.config import SynthesisConfig
from braindino.volume.recipe import Recipe

Out = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
Sources = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[COHORT=]PATH")]


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
    """Table of names that are one person: columns subject and other, each "cohort/subject"."""

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
class Encode:
    """Scans to features: one CLS vector per slice from a frozen encoder."""

    sources: Sources
    """What to encode: as for `prepare`, one source."""
    out: Out
    """The features folder."""
    weights: Path
    """encoder.safetensors, or the run folder that holds it."""
    encoder: str = "braindino"
    """Encoder plug-in (see `braindino list encoders`)."""
    contrasts: tuple[str, ...] = ()
    """Contrasts of each case, in this order; default: those of the first case."""
    seed: int = 0
    """For encoders that draw their weights."""
    assume_orientation: str | None = None
    """Axis codes (for example RAS) for files whose orientation codes are both 0."""
    volume: str | None = None
    """Which image where a scan holds several: number of a 4-D volume, or name of an image of a DICOM folder."""

    def run(self) -> None:
        """Encode, tell failures, exit 1 if there are any."""
        from braindino.pipeline.encode import encode, load_encoder, write_features
        from braindino.pipeline.sources import listed_sources, read_source, source_fingerprint

        found_in = {source: read_source(source, self.volume)[1] for source in listed_sources(self.sources)}
        cases = [case for found in found_in.values() for case in found]
        parents = {source: source_fingerprint(source, found) for source, found in found_in.items()}
        encoder = load_encoder(self.encoder, self.weights, self.seed)
        found = encode(cases, encoder, self.contrasts or None, assume_orientation=self.assume_orientation)
        write_features(found, self.out, parents)
        failed = found.cases[found.cases["status"] != "ok"]
        print(f"{len(found.cases) - len(failed)} cases x {found.values.shape[1]} views x {encoder.dim} in {self.out}")
        for case, reason in zip(failed["case"], failed["status"], strict=True):
            print(f"failed: {case}: {reason}", file=sys.stderr)
        if len(failed):
            raise SystemExit(1)


@dataclass(frozen=True)
class TaskFlags:
    """Which task on which cohort."""

    task: str
    """Task plug-in (see `braindino list tasks`)."""
    root: Path
    """The cohort's folder."""
    cohort: str = "bids"
    """Cohort plug-in (see `braindino list cohorts`)."""
    split_seed: int = 0
    """Seed of the three-way split by subject."""

    def load(self) -> Any:
        """The task."""
        from braindino.pipeline.fit import load_task

        return load_task(self.task, self.root, self.cohort, self.split_seed)


@dataclass(frozen=True)
class Backbone:
    """What the head stands on: cached features, or encoder weights for heads that need patch tokens."""

    features: Path | None = None
    """Features folder (heads that need CLS)."""
    weights: Path | None = None
    """Encoder weights (dense heads)."""
    encoder: str = "braindino"
    """Encoder plug-in for `weights`."""

    def load(self) -> Any:
        """Features or encoder."""
        from braindino.pipeline.encode import load_encoder, read_features

        if (self.features is None) == (self.weights is None):
            raise ValueError("give either --features (heads on CLS) or --weights (dense heads)")
        return read_features(self.features) if self.features else load_encoder(self.encoder, self.weights or Path())


@dataclass(frozen=True)
class Fit:
    """Learn a light head on a frozen encoder: on the training subjects, settings chosen on the validation subjects."""

    task: Annotated[TaskFlags, tyro.conf.arg(name="")]
    on: Annotated[Backbone, tyro.conf.arg(name="")]
    out: Out
    """The head's folder."""
    head: str = "linear"
    """Head plug-in (see `braindino list heads`)."""
    fraction: float = 1.0
    """Share of the training subjects, stratified and nested."""
    seed: int = 0
    """Which draw of that share."""

    def run(self) -> None:
        """Fit and write the head."""
        from braindino.pipeline.fit import fit, write_head

        fitted = fit(self.task.load(), self.on.load(), self.head, fraction=self.fraction, seed=self.seed)
        write_head(fitted, self.out)
        print(f"{self.head} head for {fitted.task} on {len(fitted.subjects)} training subjects in {self.out}")


@dataclass(frozen=True)
class Predict:
    """Apply a head to the test subjects (or another split): one row per case, failed cases included."""

    task: Annotated[TaskFlags, tyro.conf.arg(name="")]
    on: Annotated[Backbone, tyro.conf.arg(name="")]
    head: Path
    """Folder made by `braindino fit`."""
    out: Out
    """The predictions folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Which subjects."""

    def run(self) -> None:
        """Predict and write the table."""
        from braindino.pipeline.fit import read_head
        from braindino.pipeline.predict import predict, write_predictions

        table = predict(self.task.load(), self.on.load(), read_head(self.head), split=self.split, out=self.out)
        write_predictions(table, self.out)
        print(f"{len(table.table)} cases in {self.out / 'predictions.tsv'}")


@dataclass(frozen=True)
class Score:
    """Predictions to metrics with subject-bootstrap intervals and paired comparisons. Needs no torch."""

    predictions: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folders made by `braindino predict`; models on the same task are compared in pairs."""
    out: Out
    """The scores folder."""
    draws: int = 2000
    """Bootstrap draws."""
    seed: int = 0
    """Seed of the bootstrap."""

    def run(self) -> None:
        """Score, write and print the table."""
        from braindino.pipeline.predict import read_predictions
        from braindino.pipeline.score import score, write_scores
        from braindino.record import fingerprint, read_record

        tables = [read_predictions(folder).table for folder in self.predictions]
        parents = {str(folder): fingerprint(read_record(folder, "predict")) for folder in self.predictions}
        scores = score(tables, draws=self.draws, seed=self.seed)
        write_scores(scores, self.out, parents)
        columns = ["task", "encoder", "head", "fraction", "metric", "value", "low", "high", "subjects"]
        print(scores.metrics[columns].to_string(index=False))


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
class Demo:
    """The whole line on a fresh machine: synthetic subjects from real anatomy, two stages, four tasks, one report."""

    out: Out = Path("demo")
    """Where everything goes. Ctrl-C at any point; the same command goes on."""
    anatomy: Path | None = None
    """Folder of FreeSurfer-style label maps to build the subjects from; default: the packaged anatomies."""
    workers: int = 0
    """Processes; 0 means one per core."""

    def run(self) -> None:
        """Run and say where the report is."""
        from braindino.pipeline.demo import demo

        print(f"report: {demo(self.out, anatomy=self.anatomy, workers=self.workers).resolve()}")


@dataclass(frozen=True)
class Analyze:
    """What the frozen features hold without any head: k-NN, CKA, effective rank, site."""

    features: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folders made by `braindino encode`, of one encoder each, on the same cases."""
    out: Out
    """The analysis folder."""
    task: str | None = None
    """A classification task whose classes k-NN should find (with --root and --cohort)."""
    root: Path | None = None
    """The cohort's folder."""
    cohort: str = "bids"
    """Cohort plug-in."""

    def run(self) -> None:
        """Analyze and print the tables."""
        from braindino.pipeline.analyze import analyze_folders

        print(analyze_folders(self.features, self.out, self.task, self.root, self.cohort))


@dataclass(frozen=True)
class Report:
    """Artefacts to one self-contained HTML page."""

    out: Out
    """The report's folder; the page is index.html in it."""
    title: str = "BrainDINO report"
    """Headline of the page."""
    corpus: Path | None = None
    """Folder made by `prepare`."""
    runs: tuple[Path, ...] = ()
    """Folders made by `pretrain`."""
    predictions: tuple[Path, ...] = ()
    """Folders made by `predict`."""
    scores: Path | None = None
    """Folder made by `score`."""
    analysis: Path | None = None
    """Folder made by `analyze`."""
    root: Path | None = None
    """The cohort's folder, for pictures of its scans."""
    cohort: str = "bids"
    """Cohort plug-in."""
    tasks: tuple[str, ...] = ()
    """Tasks of the predictions, on --root: for units, regions and the sizes of the splits."""

    def run(self) -> None:
        """Write the page and say where."""
        from braindino.pipeline.fit import load_task
        from braindino.pipeline.report import report

        if self.tasks and not self.root:
            raise ValueError("--tasks needs the cohort's folder: give --root and --cohort")
        cases = catalog.load("cohorts", self.cohort).cases(self.root) if self.root else ()
        page = report(
            self.out,
            title=self.title,
            corpus=self.corpus,
            runs={run.name: run for run in self.runs},
            predictions=self.predictions,
            scores=self.scores,
            analysis=self.analysis,
            cases={case.name: case for case in cases},
            tasks=[load_task(name, self.root, self.cohort) for name in self.tasks if self.root],
        )
        print(page)


@dataclass(frozen=True)
class Pretrain:
    """Slices to an encoder by self-distillation (DINO, iBOT, KoLeo, EMA teacher; stage 2 adds Gram).

    braindino pretrain CONFIG --out RUN [--optim.lr 1e-3 ...]: the file is the interface, flags are for a quick trial.
    """

    config: Annotated[PretrainConfig, tyro.conf.arg(name="")]
    """All settings; precedence is default < file < flag."""
    out: Out = Path("run")
    """The run folder. A killed run goes on from its newest checkpoint."""

    def run(self) -> None:
        """Pretrain and say where the weights are."""
        from braindino.pipeline.pretrain import pretrain

        print(pretrain(self.config, self.out))


VERBS: dict[str, type] = {
    "prepare": Prepare,
    "pretrain": Pretrain,
    "encode": Encode,
    "fit": Fit,
    "predict": Predict,
    "score": Score,
    "analyze": Analyze,
    "report": Report,
    "demo": Demo,
    "synthesize": Synthesize,
    "check": Check,
    "list": List,
}
