"""What a report is made from: artefacts that were read and verified, each of them optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindino.reporting.names import trivial
from braindino.tasks import reported_under

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from braindino.reporting.corpus_view import CorpusView
    from braindino.types import Case, Task

SYNTHETIC = "synthetic"
"""Cohorts with this name, alone or before a colon, hold synthetic subjects."""


@dataclass(frozen=True)
class Answers:
    """The predictions of one model, fitted once, on one split under one perturbation: rows of a predictions folder."""

    folder: Path
    table: pd.DataFrame
    task: str
    kind: str
    encoder: str
    head: str
    fraction: float
    seed: int
    perturbation: str
    severity: int
    split: str
    protocol: str = "three_way"

    @property
    def reported(self) -> bool:
        """Whether it is the split that its protocol reports."""
        return self.split == reported_under(self.protocol)

    @property
    def model(self) -> str:
        """encoder/head."""
        return f"{self.encoder}/{self.head}"

    @property
    def good(self) -> pd.DataFrame:
        """The rows with an answer."""
        return self.table[self.table["status"] == "ok"]


def answers_of(folder: Path, table: pd.DataFrame) -> tuple[Answers, ...]:
    """Cut a predictions folder into models: a sweep holds many fractions, draws (its seeds) and perturbations.

    The label maps of a folder are those of its largest fraction.

    Raises:
        ValueError: the table has no rows.
    """
    if not len(table):
        raise ValueError(f"{folder} holds no predictions; run 'braindino predict' on cases")
    return tuple(_named(folder, rows) for _, rows in table.groupby(list(RUN), sort=False))


RUN = ("task", "encoder", "head", "fraction", "seed", "perturbation", "severity", "split")
"""Columns that tell one model's answers from another's."""


def reported_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table with columns protocol and split that are of the split which their protocol reports."""
    return table[table["split"] == table["protocol"].map(reported_under)]


def _named(folder: Path, rows: pd.DataFrame) -> Answers:
    first = rows.iloc[0]
    told: dict[str, Any] = {name: int(first[name]) for name in ("seed", "severity")}
    told |= {name: str(first[name]) for name in ("task", "kind", "encoder", "head", "perturbation", "split")}
    if "protocol" in rows:
        told["protocol"] = str(first["protocol"])
    return Answers(folder, rows, fraction=float(first["fraction"]), **told)


@dataclass(frozen=True)
class Similarity:
    """Patch similarity on one slice."""

    image: np.ndarray
    points: tuple[tuple[str, int, int], ...]
    maps: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Artefacts:
    """Everything that the sections draw from."""

    corpus: CorpusView | None = None
    quarantine: pd.DataFrame | None = None
    logs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Name of a run to the entries of its log."""
    answers: tuple[Answers, ...] = ()
    metrics: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    strata: pd.DataFrame | None = None
    stratum_comparisons: pd.DataFrame | None = None
    risk_groups: pd.DataFrame | None = None
    analysis: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    similarity: Similarity | None = None
    cases: Mapping[str, Case] = field(default_factory=dict)
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role ("corpus", "run stage 1", "predictions ...") to the record of the artefact."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Name to task: units, classes, regions and the sizes of the splits; what is not here is not told."""

    def unit(self, task: str) -> str:
        """The unit of a task's target; "" where the task is not at hand."""
        return self.tasks[task].unit if task in self.tasks else ""

    def headline_answers(self) -> dict[str, list[Answers]]:
        """Task to its unperturbed reported answers at the largest fraction, one per model (the lowest seed)."""
        plain = [one for one in self.answers if one.reported and one.perturbation == "none"]
        largest: dict[str, float] = {}
        for one in plain:
            largest[one.task] = max(one.fraction, largest.get(one.task, 0.0))
        found: dict[str, dict[str, Answers]] = {task: {} for task in largest}
        for one in sorted(plain, key=lambda answers: answers.seed):
            if one.fraction == largest[one.task]:
                found[one.task].setdefault(one.model, one)
        return {task: list(models.values()) for task, models in found.items()}

    @property
    def two_way(self) -> bool:
        """Whether any number is of the paper's protocol, which reports the subjects on which settings were chosen."""
        return any(one.protocol == "paper" for one in self.answers) or (
            self.metrics is not None and "paper" in set(self.metrics["protocol"])
        )

    def main_heads(self) -> dict[tuple[str, str], str]:
        """Task and encoder to the head with which the encoder stands in figures: its first learned one.

        First in the order of the predictions, or of the scores where there are none.
        """
        names = [(one.task, one.encoder, one.head) for one in self.answers]
        if self.metrics is not None:
            names += list(self.metrics[["task", "encoder", "head"]].itertuples(index=False, name=None))
        found: dict[tuple[str, str], str] = {}
        for task, encoder, head in names:
            if not trivial(head):
                found.setdefault((task, encoder), head)
        return found

    def in_figures(self, table: pd.DataFrame) -> pd.DataFrame:
        """Those rows of a table with columns task, encoder and head whose model is drawn."""
        heads = self.main_heads()
        keys = zip(table["task"], table["encoder"], table["head"], strict=True)
        return table[[trivial(head) or heads.get((task, encoder)) == head for task, encoder, head in keys]]

    @cached_property
    def synthetic_tasks(self) -> frozenset[str]:
        """Tasks of which any case is known to come from a synthetic cohort."""
        made = {name for name, case in self.cases.items() if is_synthetic_case(case)}
        given = {name for name, task in self.tasks.items() if any(is_synthetic_case(case) for case in task.cases)}
        return frozenset(given | {one.task for one in self.answers if made and one.table["case"].isin(made).any()})

    def synthetic_task(self, task: str) -> bool:
        """True where any of the task's cases is known to come from a synthetic cohort."""
        return task in self.synthetic_tasks

    @property
    def synthetic_results(self) -> bool:
        """True where any result stands on synthetic subjects."""
        return any(one.task in self.synthetic_tasks for one in self.answers)

    @property
    def synthetic_corpus(self) -> bool:
        """True where the corpus holds synthetic subjects."""
        return self.corpus is not None and any(is_synthetic(str(name)) for name in self.corpus.scans["cohort"].unique())


def rows_of(table: pd.DataFrame) -> list[Any]:
    """The rows of a table as named tuples."""
    return list(table.itertuples())


def is_synthetic(cohort: str) -> bool:
    """Does a cohort's name say that its subjects are synthetic?"""
    return cohort.partition(":")[0] == SYNTHETIC


def is_synthetic_case(case: Case) -> bool:
    """Is a case from a synthetic cohort?"""
    return any(is_synthetic(scan.cohort) for scan in case.scans)
