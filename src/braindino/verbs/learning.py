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
    each_scan: bool = False
    """Every scan is a case of its own, and the encoder is not told its contrast (task `sequence`)."""

    def run(self) -> None:
        """Encode, tell failures, exit 1 if there are any."""
        from braindino.pipeline.encode import EncoderChoice, How, encode_folder
        from braindino.pipeline.sources import listed_sources, read_source, source_fingerprint, together
        from braindino.tasks import scan_by_scan

        if self.each_scan and self.contrasts:
            raise ValueError("--each-scan takes every scan whatever its contrast; leave --contrasts out")
        found_in = {source: read_source(source, self.volume)[1] for source in listed_sources(self.sources)}
        cases = together(list(found_in.values()))
        cases = scan_by_scan(cases) if self.each_scan else cases
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
    """What the head stands on: cached features, or encoder weights for heads that need patch tokens or a gradient."""

    features: Path | None = None
    """Features folder (heads that need CLS); `clinical` for age and sex from the cohort's table, without any image."""
    weights: Path | None = None
    """Encoder weights (dense heads, and heads that train in a copy of the encoder)."""
    encoder: str = "braindino"
    """Encoder plug-in for `weights`."""
    variant: str = ""
    """Variant of that encoder."""

    def load(self, task: Any) -> Any:
        """Features or encoder; `task` is whose table the clinical features are read from."""
        from braindino.pipeline.clinical import NAME, clinical_features
        from braindino.pipeline.encode import load_encoder, read_features

        if (self.features is None) == (self.weights is None):
            raise ValueError("give either --features (heads on CLS) or --weights (dense heads, lora, tuned)")
        if self.features == Path(NAME):
            return clinical_features(task)
        return (
            read_features(self.features) if self.features else load_encoder(self.encoder, self.weights, 0, self.variant)
        )


@dataclass(frozen=True)
class Fit:
    """Learn a head on an encoder that stays as it is: on the training subjects, chosen on the validation subjects."""

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
    fusion: Literal["mean", "concat", "weighted"] = "mean"
    """Contrasts are averaged, set one after the other, or averaged with learned weights."""
    calibrate: Calibration = "none"
    """Of class probabilities, on the validation subjects (heads on features)."""
    coverage: float = 0.0
    """Share of new subjects whose truth the intervals (regression) or sets (classes) hold, as 0.9; 0: none."""
    combat: bool = False
    """Take the effects of the sites out of the features first; learned in training. Unseen sites get no answer."""
    acknowledge: tuple[str, ...] = ()
    """Subjects ("cohort/subject") or cohorts to report on although the encoder was pretrained on them."""
    steps: int = 0
    """Of training (decoders, lora, tuned); 0: the head's own small number, see docs/heads.md."""

    def run(self) -> None:
        """Fit and write the head."""
        from braindino.pipeline.around import Asked
        from braindino.pipeline.fit import fit, write_head
        from braindino.record import claimed

        asked = Asked(self.calibrate, self.coverage, self.combat, self.fusion)

        asked.check(task := self.task.load())
        on = self.on.load(task)
        with claimed(self.out):
            how = {"asked": asked, "acknowledge": self.acknowledge, "steps": self.steps}
            fitted = fit(task, on, self.head, fraction=self.fraction, seed=self.seed, **how)  # type: ignore[arg-type]
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
    perturb: str = "none"
    """Perturbation plug-in, applied to each volume before preprocessing, with --weights (of features: encode)."""
    severity: int = 0
    """Of the perturbation: 0 (no change) to 5."""
    perturb_seed: int = 0
    """Of the perturbation; what is drawn for a subject depends on this and on nobody else."""

    def run(self) -> None:
        """Predict and write the table."""
        from braindino.pipeline.fit import read_head
        from braindino.pipeline.perturbing import Perturbation
        from braindino.pipeline.predict import predict, write_predictions
        from braindino.record import claimed

        change = Perturbation(self.perturb, self.severity, self.perturb_seed)
        on = self.on.load(task := self.task.load())
        head = read_head(self.head)
        with claimed(self.out):
            how: Any = {"split": self.split, "acknowledge": self.acknowledge, "perturbation": change}
            table = predict(task, on, head, out=self.out, **how)
            write_predictions(table, self.out, perturb_seed=None if self.perturb == "none" else self.perturb_seed)
        print(f"{len(table.table)} cases in {self.out / 'predictions.tsv'}")
