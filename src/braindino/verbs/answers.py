"""What comes out: scores, analysis, report, and the demo of it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from braindino import catalog
from braindino.types import Pooling
from braindino.verbs.flags import Out


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
        from braindino.record import claimed, fingerprint, read_record

        tables = [read_predictions(folder).table for folder in self.predictions]
        parents = {str(folder): fingerprint(read_record(folder, "predict")) for folder in self.predictions}
        scores = score(tables, draws=self.draws, seed=self.seed)
        with claimed(self.out):
            write_scores(scores, self.out, parents)
        columns = ["task", "encoder", "head", "fraction", "metric", "value", "low", "high", "subjects"]
        told = ["perturbation", "severity", "protocol", "split"]
        apart = [name for name in told if scores.metrics[name].nunique() > 1]
        print(scores.metrics[columns[:4] + apart + columns[4:]].to_string(index=False))


@dataclass(frozen=True)
class Analyze:
    """What the frozen features hold without any head: k-NN, CKA, effective rank, site."""

    features: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folders made by `braindino encode`, of one encoder each, on the same cases."""
    out: Out
    """The analysis folder."""
    task: str | None = None
    """A classification task whose classes k-NN should find (with --root and --cohort)."""
    root: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="[COHORT=]PATH")] = ()
    """The cohort's folder; give it several times for a task over several cohorts."""
    cohort: str = "bids"
    """Cohort plug-in of roots without COHORT=."""
    split_file: Path | None = None
    """Split by which the heads were fitted, as `braindino split` wrote it; without it the three-way one of seed 0."""
    acknowledge: tuple[str, ...] = ()
    """Subjects ("cohort/subject") or cohorts to ask k-NN although an encoder was pretrained on them."""

    def run(self) -> None:
        """Analyze and print the tables."""
        from braindino.pipeline.analyze import analyze_folders

        where = (self.task, self.root, self.cohort, self.split_file, self.acknowledge)
        print(analyze_folders(self.features, self.out, *where))


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
    """Tasks of the predictions, on --root: for units, regions and the sizes of the splits. NAME for the three-way split
    of seed 0, NAME=PATH where `braindino split` wrote another one."""

    def run(self) -> None:
        """Write the page and say where."""
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
            tasks=[self._task(word) for word in self.tasks],
        )
        print(page)

    def _task(self, word: str) -> Any:
        from braindino.pipeline.fit import load_task

        name, _, split = word.partition("=")
        return load_task(name, str(self.root), self.cohort, split=Path(split) if split else None)


@dataclass(frozen=True)
class Paper:
    """Every table of the paper's kinds: tasks x encoders x label fractions x draws x heads, perturbations, analysis."""

    root: tyro.conf.UseAppendAction[tuple[str, ...]]
    """COHORT=FOLDER, once for each cohort that is there; synthetic=FOLDER stands for all of them."""
    out: Out
    """Where everything goes. Ctrl-C at any point; the same command goes on."""
    weights: Path | None = None
    """Our encoder: a run folder, or encoder.safetensors."""
    encoders: tuple[str, ...] = ("braindino", "random_init", "regions", "pca")
    """Each NAME, NAME=WEIGHTS or NAME=WEIGHTS@VARIANT (see `braindino list encoders`)."""
    tasks: tuple[str, ...] = ()
    """Which; all that the cohorts allow without."""
    pooling: Pooling = "cls"
    """What a slice is summed up by, where an encoder gives patch tokens."""
    fractions: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Of the training subjects; nested and stratified."""
    draws: int = 5
    """Of each fraction below 1."""
    dense_draws: int = 1
    """The same of segmentation, whose heads take minutes."""
    heads: tuple[str, ...] = ()
    """Head plug-ins, each on the tasks that it serves; without them linear and mlp, cox and discrete_time, decoder."""
    protocol: Literal["three_way", "paper"] = "three_way"
    """`paper`: two-way, chosen and reported on validation, to compare with published numbers; labelled so."""
    acknowledge: tuple[str, ...] = ()
    """Subjects ("cohort/subject") or cohorts to report on although an encoder was pretrained on them."""
    perturb: bool = True
    """Also test under contrast changes, Gibbs ringing and bias fields, with the heads of clean scans."""
    workers: int = 0
    """Processes; 0 means one per core."""
    dry_run: bool = False
    """Only say what would be run, what is missing, and what would leak."""

    def run(self) -> None:
        """Plan, tell, and run."""
        from braindino.pipeline.paper import paper, plan_paper
        from braindino.record import claimed

        plan = plan_paper(
            self.root,
            self.encoders,
            self.weights,
            fractions=self.fractions,
            draws=self.draws,
            dense_draws=self.dense_draws,
            heads=self.heads,
            only=self.tasks,
            protocol=self.protocol,
            acknowledge=self.acknowledge,
        )
        print("\n".join(plan.lines()))
        if self.dry_run:
            return
        with claimed(self.out):
            page = paper(plan, self.out, pooling=self.pooling, workers=self.workers, perturb=self.perturb)
        print(f"report: {page.resolve()}")


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
