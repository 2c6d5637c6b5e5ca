"""What the paper asks: its tasks with their cohorts and heads, and the encoders that answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from braindino import catalog
from braindino.pipeline.fit import load_task
from braindino.pipeline.loading import EncoderChoice
from braindino.stats.names import encoder_name
from braindino.tasks import UNKNOWN, reported
from braindino.types import Case, Split, Task
from braindino.volume.recipe import Recipe

COHORTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "brain_age": (("ixi", "long579", "pixar"),),
    "alzheimer": (("adni",),),
    "ad_vs_cn": (("adni",),),
    "autism": (("abide",),),
    "dementia": (("oasis1",),),
    "parkinson": (("ppmi",),),
    "idh": (("ucsf_pdgm",),),
    "sequence": (("brats2023_gli",),),
    "one_year_survival": (("upenn_gbm",),),
    "survival": (("upenn_gbm",),),
    "days_since_stroke": (("atlas2",),),
    "tumour_segmentation": (("brats2021",), ("brats2023_mets",), ("brats2023_men",), ("brats2024_goat",)),
}
"""Task to the cohorts on which the paper asks it; several in a tuple are put together."""
SYNTHETIC = "synthetic"
NOT_SYNTHETIC = ("alzheimer", "ad_vs_cn", "autism", "parkinson")
"""The same question as `dementia` on synthetic subjects, or one that they do not answer."""
HEADS = {
    "classification": ("linear", "mlp"),
    "regression": ("linear", "mlp"),
    "survival": ("cox", "discrete_time"),
    "segmentation": ("decoder",),
}
OURS = ("braindino", "random_init", "pca")
"""Encoders that take our own run for weights."""
WITHOUT_WEIGHTS = ("regions",)


@dataclass(frozen=True)
class Study:
    """A task on a cohort."""

    name: str
    question: str
    """Name of the task plug-in; `name` tells its cohorts too, where it is asked on several."""
    task: Task
    heads: tuple[str, ...]

    @property
    def dense(self) -> bool:
        """Whether it is segmentation, which runs the encoder live."""
        return self.task.kind == "segmentation"

    @property
    def view(self) -> str:
        """Which features it stands on: those of its cohort's cases with its contrasts."""
        contrasts = "scans" if self.task.contrasts == (UNKNOWN,) else "+".join(self.task.contrasts)
        return f"{self.task.cohort}-{contrasts}"

    @property
    def parts(self) -> tuple[Split, ...]:
        """Parts of the split; the last is reported."""
        return ("train", "validation") if reported(self.task) == "validation" else ("train", "validation", "test")


@dataclass(frozen=True)
class Rival:
    """An encoder that takes part."""

    name: str
    choice: EncoderChoice
    slices: bool
    """Whether it gives patch tokens of slices."""
    seen: frozenset[str] | None
    """Digests of the subjects that it was pretrained on; None where that is not known."""

    @staticmethod
    def of(word: str, weights: Path | None) -> Rival:
        """`name`, `name=weights` or `name=weights@variant` (`name@variant` where it takes our weights, or none).

        Raises:
            ValueError: an unknown encoder or variant, or no weights, or others than it takes.
        """
        head, _, variant = word.partition("@")
        name, _, path = head.partition("=")
        own = None if name in WITHOUT_WEIGHTS else weights if name in OURS else None
        choice = EncoderChoice(name, Path(path) if path else own, variant)
        encoder = choice.load()
        slices = isinstance(encoder.recipe, Recipe) and hasattr(encoder, "model")
        return Rival(encoder_name(name, variant), choice, slices, getattr(encoder, "seen", None))


def planned(
    roots: Sequence[str], only: Sequence[str] = (), protocol: str = "three_way", heads: Sequence[str] = ()
) -> tuple[list[Study], list[str]]:
    """The studies that can be run on these cohorts, and a sentence on each that cannot.

    Args:
        roots: words `cohort=folder`.
        only: tasks; all without.
        protocol: of their splits.
        heads: instead of `HEADS`, on the tasks of the kinds that each serves.

    Raises:
        ValueError: a word that is none, an unknown cohort or task.
    """
    for name in only:
        if name not in COHORTS:
            raise ValueError(f"unknown task {name!r}{catalog.suggest(name, list(COHORTS))}")
    folders = dict(_word(word) for word in roots)
    studies, missing = [], []
    for task, places in COHORTS.items():
        if only and task not in only:
            continue
        if SYNTHETIC in folders and (only or task not in NOT_SYNTHETIC):
            places = (*places, (SYNTHETIC,)) if len(folders) > 1 else ((SYNTHETIC,),)
        elif set(folders) == {SYNTHETIC}:
            continue
        for cohorts in places:
            lacking = [name for name in cohorts if name not in folders]
            if lacking:
                missing.append(f"{task} needs " + " and ".join(f"--root {name}=FOLDER" for name in lacking))
                continue
            try:
                found = load_task(task, [f"{name}={folders[name]}" for name in cohorts], protocol=protocol)
            except (ValueError, OSError) as error:
                missing.append(f"{task} on {'+'.join(cohorts)}: {error}")
                continue
            name = task if len(places) == 1 else f"{task}_{'_'.join(cohorts)}"
            studies.append(Study(name, task, replace(found, name=name), _heads(found, heads)))
    return studies, missing


def needs_of(head: str) -> str:
    """What a head learns on: "cls" or "views" (cached features), "patch" or "gradient" (the encoder itself)."""
    needs: str = catalog.load("heads", head).Fitted.needs
    return needs


def _heads(task: Task, wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted heads that serve the task, or the ones of its kind where none does."""
    return tuple(name for name in wanted if task.kind in catalog.load("heads", name).Fitted.kinds) or HEADS[task.kind]


def cases_of(studies: Iterable[Study]) -> dict[str, list[Case]]:
    """The cases to encode by view, in order of their names; none for segmentation."""
    found: dict[str, dict[str, Case]] = {}
    for study in studies:
        if not study.dense:
            found.setdefault(study.view, {}).update({case.name: case for case in study.task.cases})
    return {view: [cases[name] for name in sorted(cases)] for view, cases in found.items()}


def _word(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    if not equals or not path:
        raise ValueError(f"--root {word!r} is no COHORT=FOLDER; see braindino list cohorts")
    catalog.load("cohorts", name)
    return name, path
