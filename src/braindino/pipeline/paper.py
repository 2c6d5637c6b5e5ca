"""paper: encoders x tasks x fractions x draws x heads, perturbations and analysis, to one report. Resumable.

The unit of work is a sweep: one task, one encoder, one head, all fractions and draws; it is written when it is
finished, and a killed run repeats at most the sweeps that it was in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from braindino.corpus.audit import LeakageError
from braindino.corpus.jobs import run_jobs
from braindino.pipeline import clinical
from braindino.pipeline.analyze import analyze, labels_of, write_analysis
from braindino.pipeline.encode import encode_folder, read_features, write_features
from braindino.pipeline.encoding import How
from braindino.pipeline.leakage import concerned, refuse_pretrained
from braindino.pipeline.loading import EncoderChoice
from braindino.pipeline.perturbing import Perturbation
from braindino.pipeline.predict import read_predictions
from braindino.pipeline.report import report
from braindino.pipeline.score import score, write_scores
from braindino.pipeline.similarity import write_similarity
from braindino.pipeline.studies import HEADS, Rival, Study, cases_of, needs_of, planned
from braindino.pipeline.sweep import Sweep, sweep
from braindino.progress import note, progress
from braindino.record import fingerprint_of, is_done
from braindino.tasks import DRAWS, FRACTIONS
from braindino.types import Case, Pooling, Task

PERTURBED = (("contrast", 3), ("gibbs", 3), ("bias_field", 3), ("contrast", 5), ("gibbs", 5), ("bias_field", 5))
"""Perturbation and severity: the three of the paper, at two of our severities (the paper's are not known)."""
ROBUST = ("brain_age", "alzheimer", "autism", "dementia", "idh", "tumour_segmentation")
"""Tasks that are asked under them: one of each kind of features on which all encoders answer, and segmentation."""

Changed = tuple[Path, ...] | tuple[Perturbation, ...]
MANY_CASES = 100
"""A process takes seconds to start, a case of a small encoder a fraction of one."""


@dataclass(frozen=True)
class PaperPlan:
    """What a run would do, and what it lacks."""

    studies: tuple[Study, ...]
    rivals: tuple[Rival, ...]
    missing: tuple[str, ...]
    """A sentence for each task that cannot be run, with what it needs."""
    absent: tuple[str, ...]
    """A sentence for each encoder that cannot be loaded, and why."""
    leaks: tuple[str, ...]
    """A sentence for each task and encoder that was pretrained on its test subjects, unless they are acknowledged."""
    fractions: tuple[float, ...]
    draws: int
    dense_draws: int
    acknowledge: tuple[str, ...] = ()

    def draws_of(self, study: Study) -> int:
        """Draws of each fraction below 1."""
        return self.dense_draws if study.dense else self.draws

    def fits(self, study: Study) -> int:
        """How many heads are learned for one encoder and head plug-in."""
        return sum(1 if fraction == 1 else self.draws_of(study) for fraction in self.fractions)

    def lines(self) -> Iterator[str]:
        """What would be done, in words."""
        for study in self.studies:
            task = study.task
            parts = ", ".join(f"{len({c.subject for c in task.cases_of(p)})} {p}" for p in study.parts)
            yield f"{study.name}: {len(task.cases)} cases of {task.cohort} ({parts} subjects), {', '.join(study.heads)}"
        yield from (f"MISSING {line}" for line in (*self.missing, *self.absent))
        yield from (f"LEAK {line}" for line in self.leaks)
        yield "encoders: " + ", ".join(f"{rival.name}" for rival in self.rivals)
        fits = sum(len(study.heads) * self.fits(study) for study in self.studies)
        yield f"{len(self.studies)} tasks x {len(self.rivals)} encoders, {fits * len(self.rivals)} fits in all"


def plan_paper(
    roots: Sequence[str],
    rivals: Sequence[str],
    weights: Path | None,
    *,
    fractions: Sequence[float] = FRACTIONS,
    draws: int = DRAWS,
    dense_draws: int = 1,
    only: Sequence[str] = (),
    protocol: str = "three_way",
    heads: Sequence[str] = (),
    acknowledge: Sequence[str] = (),
) -> PaperPlan:
    """Which studies can be run on these cohorts, and what the others lack; reads names and tables, no image.

    Args:
        roots: words `cohort=folder`, as `prepare` takes them; `synthetic=folder` stands for every cohort.
        rivals: encoders, each `name`, `name=weights` or `name=weights@variant`; `weights` where none are given.
        weights: of our own encoder: a run folder.
        fractions: of the training subjects.
        draws: of each fraction below 1.
        dense_draws: the same of segmentation, whose heads take minutes.
        only: names of studies; all of them without.
        protocol: of every split, `three_way` or `paper`.
        heads: plug-ins in place of those of `studies.HEADS`, each on the tasks that it serves.
        acknowledge: subjects ("cohort/subject") or cohorts to report on although an encoder was pretrained on them.

    Raises:
        ValueError: an unknown word or task, or an encoder and variant twice.
    """
    studies, missing = planned(roots, only, protocol, heads)
    found, absent = [], []
    for word in rivals:
        try:
            found.append(Rival.of(word, weights))
        except (ValueError, OSError) as error:
            absent.append(f"encoder {word}: {error}")
    names = [rival.name for rival in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"encoder {twice[0]} is given twice; tables could not tell the two apart")
    leaks = tuple(_leaks(studies, found, acknowledge))
    named = tuple(studies), tuple(found), tuple(missing), tuple(absent), leaks
    return PaperPlan(*named, tuple(sorted(set(fractions))), draws, dense_draws, tuple(acknowledge))


def _leaks(studies: Sequence[Study], rivals: Sequence[Rival], acknowledge: Sequence[str]) -> Iterator[str]:
    for study in studies:
        for rival in rivals:
            try:
                refuse_pretrained(study.task, rival, concerned(study.task, rival, acknowledge))
            except LeakageError as error:
                yield f"{rival.name}: {error}"


def paper(
    plan: PaperPlan,
    out: Path,
    *,
    pooling: Pooling = "cls",
    workers: int = 0,
    perturb: bool = True,
) -> Path:
    """Run a plan and write `report/index.html`; the same call goes on where an earlier one was stopped.

    Args:
        plan: made by `plan_paper`.
        out: folder of all artefacts.
        pooling: what a slice is summed up by, where an encoder gives patch tokens.
        workers: processes for encoding and for the heads; 0 means one per core.
        perturb: also ask the clean heads of all training subjects about the reported cases under `PERTURBED`.

    Raises:
        LeakageError: an encoder was pretrained on subjects that a task reports on and the plan does not acknowledge.
        ValueError: an encoder that cannot be loaded, nothing to run, or as `encode`, `fit`, `predict` and `score`.
    """
    if not plan.studies:
        raise ValueError("no task can be run: " + "; ".join(plan.missing or ("give --root COHORT=FOLDER",)))
    if plan.absent:
        raise ValueError(plan.absent[0])
    if plan.leaks:
        raise LeakageError(plan.leaks[0])
    out, workers = Path(out), workers or os.cpu_count() or 1
    for line in plan.missing:
        note(line)
    features = _encoded(plan, out, pooling, workers, perturb)
    sweeps = list(_sweeps(plan, out, features, perturb))
    with progress("heads", len(sweeps)) as advance:
        for number, _ in run_jobs(sweep, [(one,) for one in sweeps], workers):
            advance(1, sweeps[number].out.name)
    folders = [one.out for one in sweeps]
    parents = {folder.name: fingerprint_of(folder) for folder in folders}
    if not is_done(out / "scores", "score", None, parents):
        write_scores(score([read_predictions(folder).table for folder in folders]), out / "scores", parents)
    _analysis(plan, out, features)
    return _report(plan, out, folders)


def _encoded(plan: PaperPlan, out: Path, pooling: Pooling, workers: int, perturb: bool) -> dict[tuple[str, str], Path]:
    """Features of every encoder on the cases of every view of the cohorts, clean and perturbed: (encoder, view)."""
    found = {}
    for rival in plan.rivals:
        summed: Pooling = pooling if rival.slices else "cls"
        for view, cases in cases_of(plan.studies).items():
            contrasts = tuple(dict.fromkeys(scan.contrast for scan in cases[0].scans))
            found[rival.name, view] = out / "features" / f"{rival.name}-{view}"
            _encode(cases, rival, found[rival.name, view], How(contrasts, summed), workers)
            asked = [s for s in plan.studies if s.view == view and s.question in ROBUST and not s.dense]
            tested = {case.name for study in asked for case in study.task.cases_of(study.parts[-1])}
            for name, severity in PERTURBED if perturb and tested else ():
                folder = out / "features" / f"{rival.name}-{view}-{name}{severity}"
                changed = How(contrasts, summed, perturbation=name, severity=severity)
                chosen = [case for case in cases if case.name in tested]
                _encode(chosen, rival, folder, changed, workers)
                found[rival.name, f"{view}-{name}{severity}"] = folder
    return found


def _encode(cases: Sequence[Case], rival: Rival, out: Path, how: How, workers: int) -> None:
    """In processes of their own only where there are enough cases to pay for their start."""
    encode_folder(cases, rival.choice, out, how, workers=workers if len(cases) >= MANY_CASES else 0)


def _sweeps(plan: PaperPlan, out: Path, features: dict[tuple[str, str], Path], perturb: bool) -> Iterator[Sweep]:
    """Every task, encoder and head; beside them age and sex alone, and the trivial baseline."""
    for study in plan.studies:

        def of(encoder: str, head: str, on: Path | EncoderChoice, changed: Changed = (), study: Study = study) -> Sweep:
            folder = out / "predictions" / f"{study.name}-{encoder}-{head}"
            learned = plan.fractions, plan.draws_of(study)
            return Sweep(study.task, encoder, head, on, changed, *learned, folder, plan.acknowledge)

        robust = PERTURBED if perturb and study.question in ROBUST else ()
        live = [head for head in study.heads if needs_of(head) in ("patch", "gradient")]
        if live and (without := [rival.name for rival in plan.rivals if not rival.slices]):
            note(f"{study.name} with {', '.join(live)} is left out for {', '.join(without)}: no encoder of slices")
        inside, then = [rival for rival in plan.rivals if rival.slices], tuple(Perturbation(*one) for one in robust)
        yield from (of(rival.name, head, rival.choice, then) for rival in inside for head in live)
        if study.dense:
            continue
        cached = [head for head in study.heads if head not in live]
        table = out / "features" / f"{clinical.NAME}-{study.name}"
        write_features(clinical.clinical_features(study.task), table)
        first = [head for head in (*cached, *HEADS[study.task.kind]) if needs_of(head) == "cls"][:1]
        yield from (of(clinical.NAME, head, table) for head in (*first, "prior"))
        for rival in plan.rivals:
            changed = tuple(features[rival.name, f"{study.view}-{name}{severity}"] for name, severity in robust)
            yield from (of(rival.name, head, features[rival.name, study.view], changed) for head in cached)


def _analysis(plan: PaperPlan, out: Path, features: dict[tuple[str, str], Path]) -> None:
    """k-NN with McNemar tests, CKA, rank and site on the first classification; patch similarity on a tumour.

    Nothing where every task is dense: then there are no features of whole cases.
    """
    on_features = [s for s in plan.studies if not s.dense]
    if not on_features:
        return
    classes = [s for s in on_features if s.task.kind == "classification" and s.question != "sequence"]
    study = (classes or on_features)[0]
    folders = {rival.name: features[rival.name, study.view] for rival in plan.rivals}
    parents = {name: fingerprint_of(folder) for name, folder in folders.items()}
    if is_done(out / "analysis", "analyze", None, parents):
        return
    labels = labels_of(study.task) if study.task.kind == "classification" else None
    tumours = next((s for s in plan.studies if s.dense), None)
    slices = {rival.name: rival.choice.load() for rival in plan.rivals if rival.slices}
    if tumours is not None and slices:
        write_similarity(slices, tumours.task.cases_of(tumours.parts[-1])[0], out / "analysis" / "similarity")
    train = {case.subject for case in study.task.cases_of("train")}
    read = {name: read_features(folder) for name, folder in folders.items()}
    write_analysis(analyze(read, labels, train), out / "analysis", parents)


def _report(plan: PaperPlan, out: Path, folders: Sequence[Path]) -> Path:
    tasks: list[Task] = [study.task for study in plan.studies]
    cases = {case.name: case for study in plan.studies for case in study.task.cases_of(study.parts[-1])}
    return report(
        out / "report",
        title="BrainDINO: every table of the paper's kinds",
        predictions=folders,
        scores=out / "scores",
        analysis=out / "analysis" if (out / "analysis").is_dir() else None,
        cases=cases,
        tasks=tasks,
        notes=plan.missing,
    )
