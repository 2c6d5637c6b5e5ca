"""demo: the whole line on a fresh machine. Every step is committed by its record and never repeated."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from braindino.config import read_config
from braindino.pipeline.analyze import analyze, labels_of, write_analysis
from braindino.pipeline.encode import encode, load_encoder, read_features, write_features
from braindino.pipeline.fit import fit, load_task, read_head, write_head
from braindino.pipeline.predict import predict, read_predictions, write_predictions
from braindino.pipeline.prepare import prepare
from braindino.pipeline.pretrain import pretrain
from braindino.pipeline.report import report
from braindino.pipeline.score import score, write_scores
from braindino.pipeline.similarity import write_similarity
from braindino.pipeline.sources import read_source
from braindino.pipeline.synthesize import synthesize
from braindino.pretraining.config import PretrainConfig
from braindino.record import fingerprint_of, is_done, write_bytes
from braindino.synthesis.config import SynthesisConfig
from braindino.synthesis.packaged import packaged_volumes
from braindino.types import Pooling, Task
from braindino.volume.recipe import Recipe

COHORT = {"healthy": 190, "dementia": 80, "glioma": 20}
RECIPE = Recipe(spacing_mm=2.7, size_px=72, slices=16)
TASKS = {
    "brain_age": "linear",
    "diagnosis": "linear",
    "survival": "cox",
    "tumour_segmentation": "decoder",
}
"""Task to head."""
ENCODERS = ("braindino", "random_init")
POOLING: Pooling = "mean_patch"
"""After minutes of pretraining the patch tokens hold more than the CLS token does (docs/demo.md)."""
FRACTIONS = (0.4, 1.0)
VIEWS = {"anatomy": ("T1w",), "tumour": ("T1w", "T1ce", "T2w", "FLAIR")}
"""Features of the four-contrast tumour scans, and of the T1-weighted scans of everybody else."""


@dataclass(frozen=True)
class Job:
    """One model on one task: where its head and its predictions go."""

    task: Task
    encoder: str
    head: str
    fraction: float

    @property
    def name(self) -> str:
        """Folder name."""
        return f"{self.task.name}-{self.encoder}-{self.head}-{self.fraction:g}"

    @property
    def views(self) -> str:
        """Which features it stands on."""
        return "tumour" if len(self.task.contrasts) > 1 else "anatomy"


def demo(out: Path, *, anatomy: Path | None = None, workers: int = 0) -> Path:
    """Synthetic subjects and real heads -> corpus -> stage 1 -> stage 2 -> four tasks -> report; returns the page.

    Interrupt it at any moment: the same call goes on where it stopped and ends with the same numbers.

    Args:
        out: folder for all artefacts.
        anatomy: folder of label maps to build the subjects from; default: the packaged anatomies.
        workers: processes for synthesis and preparation; 0 means one per core.
    """
    out = Path(out)
    cohort = synthesize(out / "cohort", SynthesisConfig(**COHORT, anatomy=anatomy, workers=workers))
    for name, path in packaged_volumes().items():
        if not (out / "real" / name).is_file():
            write_bytes(out / "real" / name, path.read_bytes())
    sources = [f"synthetic={cohort}", f"folder={out / 'real'}"]
    prepare(sources, out / "corpus", RECIPE, workers=workers)
    tasks = [load_task(name, cohort, "synthetic") for name in TASKS]
    _stages(out, tasks)
    for encoder in ENCODERS:
        for views in VIEWS:
            _features(out, encoder, views, tasks)
    jobs = list(_jobs(tasks))
    for job in jobs:
        _predictions(out, job)
    _scores(out, jobs)
    _analysis(out, tasks)
    return _report(out, jobs)


def _stages(out: Path, tasks: list[Task]) -> None:
    """Stage 1 and stage 2 of the tiny model; no test subject of any task is pretrained on."""
    held_out = sorted({f"{t.cohort}/{c.subject}" for t in tasks for c in t.cases_of("test")})
    for number in (1, 2):
        with importlib.resources.as_file(importlib.resources.files("braindino") / "configs") as folder:
            config = read_config(folder / f"tiny_stage{number}.toml", PretrainConfig)
        initial = out / "stage1" if number == 2 else None
        pretrain(
            replace(config, corpus=out / "corpus", initial=initial, exclude=tuple(held_out)), out / f"stage{number}"
        )


def _features(out: Path, encoder_name: str, views: str, tasks: list[Task]) -> None:
    """Features of all cases of the tasks that use these views."""
    folder = out / "features" / f"{encoder_name}-{views}"
    parents = {"encoder": fingerprint_of(out / "stage2"), "cohort": fingerprint_of(out / "cohort")}
    if is_done(folder, "encode", None, parents):
        return
    contrasts = VIEWS[views]
    cases = {case.name: case for task in tasks if task.contrasts == contrasts for case in task.cases}
    encoder = load_encoder(encoder_name, out / "stage2")
    found = encode([cases[name] for name in sorted(cases)], encoder, contrasts, pooling=POOLING)
    write_features(found, folder, parents)


def _jobs(tasks: list[Task]) -> Iterator[Job]:
    """Every encoder and fraction on every task, and the trivial baseline."""
    for task in tasks:
        for fraction in FRACTIONS:
            for encoder in ENCODERS:
                yield Job(task, encoder, TASKS[task.name], fraction)
            yield Job(task, ENCODERS[0], "prior", fraction)


def _predictions(out: Path, job: Job) -> None:
    """Fit the head, predict the test subjects."""
    head, predictions = out / "heads" / job.name, out / "predictions" / job.name
    dense = job.task.kind == "segmentation"
    source = out / "stage2" if dense else out / "features" / f"{job.encoder}-{job.views}"
    parents = {"on": fingerprint_of(source), "cohort": fingerprint_of(out / "cohort")}
    if not is_done(head, "fit", None, parents):
        on = load_encoder(job.encoder, source) if dense else read_features(source)
        write_head(fit(job.task, on, job.head, fraction=job.fraction), head, parents)
    parents = {**parents, "head": fingerprint_of(head)}
    if not is_done(predictions, "predict", None, parents):
        on = load_encoder(job.encoder, source) if dense else read_features(source)
        write_predictions(predict(job.task, on, read_head(head), out=predictions), predictions, parents)


def _scores(out: Path, jobs: list[Job]) -> None:
    folders = [out / "predictions" / job.name for job in jobs]
    parents = {folder.name: fingerprint_of(folder) for folder in folders}
    if not is_done(out / "scores", "score", None, parents):
        write_scores(score([read_predictions(folder).table for folder in folders]), out / "scores", parents)


def _analysis(out: Path, tasks: list[Task]) -> None:
    """k-NN, CKA, rank and site on the T1-weighted features; patch similarity on one slice through a test tumour."""
    names = {encoder: out / "features" / f"{encoder}-anatomy" for encoder in ENCODERS}
    parents = {name: fingerprint_of(folder) for name, folder in names.items()}
    if is_done(out / "analysis", "analyze", None, parents):
        return
    task = next(t for t in tasks if t.name == "diagnosis")
    labels = labels_of(task)
    train = {case.subject for case in task.cases_of("train")}
    tumours = next(t for t in tasks if t.name == "tumour_segmentation")
    encoders = {name: load_encoder(name, out / "stage2") for name in ENCODERS}
    write_similarity(encoders, tumours.cases_of("test")[0], out / "analysis" / "similarity")
    features = {name: read_features(folder) for name, folder in names.items()}
    write_analysis(analyze(features, labels, train), out / "analysis", parents)


def _report(out: Path, jobs: list[Job]) -> Path:
    _, real = read_source(f"folder={out / 'real'}")
    cases = {case.name: case for job in jobs for case in job.task.cases_of("test")}
    return report(
        out / "report",
        title="BrainDINO demo: from scan to report on synthetic subjects and real heads",
        corpus=out / "corpus",
        runs={"stage 1": out / "stage1", "stage 2": out / "stage2"},
        predictions=[out / "predictions" / job.name for job in jobs],
        scores=out / "scores",
        analysis=out / "analysis",
        cases={**{case.name: case for case in real}, **cases},
        tasks=list({job.task.name: job.task for job in jobs}.values()),
        notes=["A slice is summed up by the mean of its patch tokens, a scan by the mean over its slices."],
    )
