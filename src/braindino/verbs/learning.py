"""What is learned: encoder, features, heads, predictions."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.hardware import Hardware
from braindino.types import Calibration, Level, Pooling
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
    """Scans to features: one vector per slice from a frozen encoder, or every patch token of it."""

    sources: Sources
    """What to encode: as for `prepare`, one source or more."""
    out: Out
    """The features folder. A killed run goes on where it stopped; a finished one is not repeated."""
    weights: Path | None = None
    """encoder.safetensors, the run folder that holds it, or a folder of `save_pretrained`; none for encoders without
    weights."""
    encoder: str = "braindino"
    """Encoder plug-in (see `braindino list encoders`)."""
    variant: str = ""
    """Variant of the encoder (see `braindino list encoders`); default: its first."""
    encoder_seed: int = 0
    """For encoders that draw their weights."""
    contrasts: tuple[str, ...] = ()
    """Contrasts of each case, in this order; default: those of the first case."""
    any_contrast: bool = False
    """Encode a case that lacks some of the contrasts with those it has; the views of the others are NaN."""
    pooling: Pooling = "cls"
    """What a slice is summed up by: its CLS token, or the mean of its patch tokens."""
    level: Level = "cls"
    """`patch`: keep every patch token too, as float16; their size is told before, and must fit on the disk."""
    slices: int | None = None
    """Slices per contrast (the paper: 128), instead of those of the encoder's recipe."""
    size_px: int | None = None
    """Side of a slice in pixels (224 or 256, any multiple of the patch), instead of that of the encoder's recipe."""
    perturb: str = "none"
    """Perturbation plug-in (see `braindino list perturbations`), applied to the volume before preprocessing."""
    severity: int = 0
    """Of the perturbation: 0 (no change) to 5."""
    seed: int = 0
    """Of the perturbation; what is drawn for a subject depends on this and on nobody else."""
    workers: int = 0
    """Processes of one thread each; 0: this process alone, reading one case while another is computed."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://host:8786) whose workers do it instead; see docs/encode.md."""
    assume_orientation: str | None = None
    """Axis codes (for example RAS) for files whose orientation codes are both 0."""
    volume: str | None = None
    """Which image where a scan holds several: number of a 4-D volume, or name of an image of a DICOM folder."""

    def run(self) -> None:
        """Encode, tell failures, exit 1 if there are any."""
        from braindino.pipeline.encode import EncoderChoice, How, encode_folder
        from braindino.pipeline.sources import listed_sources, read_source, source_fingerprint

        found_in = {source: read_source(source, self.volume)[1] for source in listed_sources(self.sources)}
        cases = [case for found in found_in.values() for case in found]
        parents = {source: source_fingerprint(source, found) for source, found in found_in.items()}
        choice = EncoderChoice(self.encoder, self.weights, self.variant, self.encoder_seed, self.slices, self.size_px)
        first = cases[0].scans if cases else ()
        how = How(
            self.contrasts or tuple(scan.contrast for scan in first),
            self.pooling,
            self.level,
            self.any_contrast,
            self.perturb,
            self.severity,
            self.seed,
            self.assume_orientation,
        )
        found = encode_folder(cases, choice, self.out, how, workers=self.workers, cluster=self.cluster, parents=parents)
        failed = found.cases[found.cases["status"] != "ok"]
        count, views, dim = found.values.shape
        print(f"{count - len(failed)} cases x {views} views x {dim} in {self.out}")
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
    variant: str = ""
    """Variant of that encoder."""

    def load(self) -> Any:
        """Features or encoder."""
        from braindino.pipeline.encode import load_encoder, read_features

        if (self.features is None) == (self.weights is None):
            raise ValueError("give either --features (heads on CLS) or --weights (dense heads)")
        return (
            read_features(self.features) if self.features else load_encoder(self.encoder, self.weights, 0, self.variant)
        )


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
    fusion: Literal["mean", "concat"] = "mean"
    """Contrasts are averaged, or set one after the other."""
    calibrate: Calibration = "none"
    """Of class probabilities, on the validation subjects (heads on features)."""
    coverage: float = 0.0
    """Share of new subjects whose truth the intervals (regression) or sets (classes) hold, as 0.9; 0: none."""
    combat: bool = False
    """Take the effects of the sites out of the features first; learned in training. Unseen sites get no answer."""

    def run(self) -> None:
        """Fit and write the head."""
        from braindino.pipeline.around import Asked
        from braindino.pipeline.fit import fit, write_head
        from braindino.record import claimed

        asked = Asked(self.calibrate, self.coverage, self.combat, self.fusion)

        asked.check(task := self.task.load())
        on = self.on.load()
        with claimed(self.out):
            fitted = fit(task, on, self.head, fraction=self.fraction, seed=self.seed, asked=asked)
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
        from braindino.record import claimed

        task, on, head = self.task.load(), self.on.load(), read_head(self.head)
        with claimed(self.out):
            table = predict(task, on, head, split=self.split, out=self.out)
            write_predictions(table, self.out)
        print(f"{len(table.table)} cases in {self.out / 'predictions.tsv'}")
