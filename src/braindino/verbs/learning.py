"""What is learned: encoder, features, heads, predictions."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.hardware import Hardware
from braindino.types import Pooling
from braindino.verbs.flags import Out, Sources


@dataclass(frozen=True)
class Pretrain:
    """Slices to an encoder by self-distillation (DINO, iBOT, KoLeo, EMA teacher; stage 2 adds Gram).

    braindino pretrain CONFIG --out RUN [--optim.lr 1e-3 ...]: the file is the interface, flags are for a quick trial.
    """

    config: Annotated[PretrainConfig, tyro.conf.arg(name="")]
    """All settings; precedence is default < file < flag."""
    out: Out = Path("run")
    """The run folder. A killed run goes on from its newest checkpoint."""
    plan: bool = False
    """Train nothing: print parameters, memory per rank, FLOPs, days on the machine below. Needs no corpus, no GPU."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)
    """The machine, for `plan` only; without it, an error."""

    def run(self) -> None:
        """Pretrain and say where the weights are; or plan."""
        if self.plan:
            from braindino.pipeline.plan import show_plan

            show_plan(self.config, self.hardware)
            return
        if self.hardware != Hardware():
            raise ValueError(
                "--gpus, --precision, --micro-batch and the other flags of a machine only describe it for --plan; "
                "a run is told by --compute.micro-batch, --compute.parallel and the like"
            )
        from braindino.pipeline.pretrain import pretrain

        print(pretrain(self.config, self.out))


@dataclass(frozen=True)
class Encode:
    """Scans to features: one vector per slice from a frozen encoder."""

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
    pooling: Pooling = "cls"
    """What a slice is summed up by: its CLS token, or the mean of its patch tokens."""
    seed: int = 0
    """For encoders that draw their weights."""
    assume_orientation: str | None = None
    """Axis codes (for example RAS) for files whose orientation codes are both 0."""
    volume: str | None = None
    """Which image where a scan holds several: number of a 4-D volume, or name of an image of a DICOM folder."""
    each_scan: bool = False
    """Every scan is a case of its own, and the encoder is not told its contrast (task `sequence`)."""

    def run(self) -> None:
        """Encode, tell failures, exit 1 if there are any."""
        from braindino.pipeline.encode import encode, load_encoder, write_features
        from braindino.pipeline.sources import listed_sources, read_source, source_fingerprint, together
        from braindino.record import claimed
        from braindino.tasks import scan_by_scan

        if self.each_scan and self.contrasts:
            raise ValueError("--each-scan takes every scan whatever its contrast; leave --contrasts out")
        found_in = {source: read_source(source, self.volume)[1] for source in listed_sources(self.sources)}
        cases = together(list(found_in.values()))
        cases = scan_by_scan(cases) if self.each_scan else cases
        parents = {source: source_fingerprint(source, found) for source, found in found_in.items()}
        encoder = load_encoder(self.encoder, self.weights, self.seed)
        choices: Any = {"pooling": self.pooling, "assume_orientation": self.assume_orientation}
        with claimed(self.out):
            found = encode(cases, encoder, self.contrasts or None, **choices)
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
    root: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="[COHORT=]PATH")]
    """The cohort's folder; give it several times for a task over several cohorts."""
    cohort: str = "bids"
    """Cohort plug-in of roots without COHORT= (see `braindino list cohorts`)."""
    split_seed: int = 0
    """Seed of the split by subject; the draw of a fraction has its own, `--seed` of `fit`."""
    protocol: str = "three_way"
    """`three_way` (chosen on validation, reported on test), `paper` (two-way: chosen and reported on validation) or
    `site:NAME` (test is that site)."""
    split_file: Path | None = None
    """Split and protocol from what `braindino split` wrote (folder or split.tsv), instead of drawing them."""

    def load(self) -> Any:
        """The task."""
        from braindino.pipeline.fit import load_task

        chosen: Any = {"protocol": self.protocol, "split": self.split_file}
        return load_task(self.task, self.root, self.cohort, self.split_seed, **chosen)


@dataclass(frozen=True)
class Split:
    """Freeze a task's split by subject in a file, to publish it and to give it to `fit` and `predict`."""

    task: Annotated[TaskFlags, tyro.conf.arg(name="")]
    """Which task."""
    out: Out
    """The folder: split.tsv and, for segmentation, splits_final.json of nnU-Net."""
    folds: int = 0
    """Folds of the subjects outside of test, for cross-validation (nnU-Net: 5); 0: none."""
    fold_seed: int = 0
    """Seed of the folds."""

    def run(self) -> None:
        """Write the split and say how large it is."""
        from braindino.pipeline.split import write_split
        from braindino.record import claimed, read_record

        task = self.task.load()
        with claimed(self.out):
            about = {"split_seed": self.task.split_seed, "split_file": bool(self.task.split_file)}
            write_split(task, self.out, folds=self.folds, seed=self.fold_seed, about=about)
        sizes = ", ".join(f"{count} {split}" for split, count in read_record(self.out)["facts"].items())
        print(f"{task.name} on {task.cohort}, protocol {task.protocol}: {sizes} subjects in {self.out}")


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
    """Which draw of that share; the split does not depend on it."""
    acknowledge: tuple[str, ...] = ()
    """Subjects ("cohort/subject") or cohorts to report on although the encoder was pretrained on them."""

    def run(self) -> None:
        """Fit and write the head."""
        from braindino.pipeline.fit import fit, write_head
        from braindino.record import claimed

        task, on = self.task.load(), self.on.load()
        with claimed(self.out):
            fitted = fit(task, on, self.head, fraction=self.fraction, seed=self.seed, acknowledge=self.acknowledge)
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
    acknowledge: tuple[str, ...] = ()
    """As for `fit`."""

    def run(self) -> None:
        """Predict and write the table."""
        from braindino.pipeline.fit import read_head
        from braindino.pipeline.predict import predict, write_predictions
        from braindino.record import claimed

        task, on, head = self.task.load(), self.on.load(), read_head(self.head)
        with claimed(self.out):
            table = predict(task, on, head, split=self.split, out=self.out, acknowledge=self.acknowledge)
            write_predictions(table, self.out)
        print(f"{len(table.table)} cases in {self.out / 'predictions.tsv'}")
