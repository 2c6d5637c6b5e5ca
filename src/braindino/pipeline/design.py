"""From features and a task to what a head learns on: a row per case that was encoded, with site and target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped

from braindino.fitting.combat import Combat
from braindino.fitting.fusion import ContrastWeights, Means
from braindino.heads import Views
from braindino.pipeline.pooling import Fusion, by_contrast, pooled
from braindino.tasks import UNKNOWN
from braindino.types import Case, Features, Task

if TYPE_CHECKING:
    import pandas as pd

Needs = Literal["cls", "views", "patch", "gradient"]
TABLE = "table"
"""The contrast of what the participants table tells: no image, so that it serves every task (`pipeline.clinical`)."""


@dataclass(frozen=True)
class Design:
    """The cases that were encoded, in their order, and their features."""

    cases: tuple[Case, ...]
    x: Float[np.ndarray, "case dim"] | Views
    """Mean over the views of each case, or all of them, as the head needs."""

    @property
    def pooled(self) -> Float[np.ndarray, "case dim"]:
        """Mean over the views of each case, float64."""
        return self.x.values.mean(axis=1, dtype=np.float64) if isinstance(self.x, Views) else self.x

    @property
    def subjects(self) -> Shaped[np.ndarray, " case"]:
        """Whose case it is."""
        return np.array([case.subject for case in self.cases])

    @property
    def sites(self) -> tuple[str, ...]:
        """Where each case was scanned; "" where it is not known."""
        return tuple(str(case.site) for case in self.cases)

    @property
    def weight(self) -> Float[np.ndarray, " case"]:
        """1 / number of the subject's cases, so that each subject counts once."""
        _, which, counts = np.unique(self.subjects, return_inverse=True, return_counts=True)
        return 1.0 / counts[which]

    def kept(self, chosen: Bool[np.ndarray, " case"]) -> Design:
        """The chosen cases alone."""
        cases = tuple(case for case, keep in zip(self.cases, chosen, strict=True) if keep)
        if not isinstance(self.x, Views):
            return Design(cases, self.x[chosen])
        x = replace(self.x, values=self.x.values[chosen], position_mm=self.x.position_mm[chosen])
        return Design(cases, x)

    def without_sites(self, combat: Combat) -> Design:
        """The same cases without the effects of their sites.

        Raises:
            ValueError: as `Combat.apply`.
        """
        if isinstance(self.x, Views):
            return replace(self, x=replace(self.x, values=combat.apply(self.x.values, self.sites)))
        return replace(self, x=combat.apply(self.x, self.sites))


def of_task(task: Task, features: Features) -> Features:
    """The features with the views of the task's own contrasts alone, in the task's order.

    A view of several contrasts at once ("T1w+FLAIR") must be of exactly the task's. A case that has none of them is one
    that was not encoded. Views that stand side by side are not copied, so that they are still read as they are used.

    Raises:
        ValueError: the features lack a contrast of the task, or hold it only in one view with others.
    """
    held, asked = list(dict.fromkeys(features.contrasts)), task.contrasts
    if held == [TABLE] or all({*name.split("+")} == {*asked} for name in held):
        return features
    if lacking := [name for name in asked if name not in held]:
        how = "--each-scan" if asked == (UNKNOWN,) else f"--contrasts {' '.join(asked)}"
        raise ValueError(
            f"task {task.name} asks {', '.join(asked)}, but the features are of {', '.join(held)}: no view of "
            f"{' or '.join(lacking)} alone; encode with {how}"
        )
    places = [n for name in asked for n, own in enumerate(features.contrasts) if own == name]
    if places == [*range(len(features.contrasts))]:
        return features
    window = slice(places[0], places[-1] + 1) if places == [*range(places[0], places[-1] + 1)] else places
    cases = features.cases.copy()
    for row, lacks in enumerate(_lacks(cases)):
        if cases["status"].iloc[row] == "ok" and {*asked} <= lacks:
            cases.loc[cases.index[row], "status"] = f"{cases['case'].iloc[row]} has no {', '.join(asked)}"
    values, positions = features.values[:, window], features.position_mm[:, window]
    contrasts = tuple(features.contrasts[n] for n in places)
    return replace(features, values=values, position_mm=positions, contrasts=contrasts, cases=cases, patch=None)


def used(task: Task, features: Features, cases: Sequence[Case]) -> list[str]:
    """Of which contrasts of the task the features of each case were made, as "T1w+FLAIR"; "" where of no image.

    Of a case that was not encoded, the contrasts of its scans.
    """
    if {*features.contrasts} == {TABLE}:
        return [""] * len(cases)
    rows, lacks = rows_of(features), _lacks(features.cases)
    return [
        "+".join(name for name in task.contrasts if name not in lacks[rows[case.name]])
        if case.name in rows
        else "+".join(scan.contrast for scan in case.scans)
        for case in cases
    ]


def _lacks(cases: pd.DataFrame) -> list[set[str]]:
    """The contrasts that each case lacks."""
    missing = cases["missing"] if "missing" in cases else [""] * len(cases)
    return [set(str(names).split()) for names in missing]


def design(
    task: Task,
    features: Features,
    cases: Sequence[Case],
    needs: Needs = "cls",
    fusion: Fusion | ContrastWeights = "mean",
) -> Design:
    """The cases that were encoded, with the features that a head asks for.

    `fusion` is for heads on pooled views; weights are what `fitting.fusion.fit_weights` learned.

    Raises:
        ValueError: none of the cases has features, a head that does not learn on features, a fusion other than mean or
            a case that lacks a contrast where the head needs every view, or as `pooled`.
    """
    usable, places = encoded(task, features, cases)
    if needs == "cls":
        if isinstance(fusion, ContrastWeights):
            return Design(usable, fusion.apply(means_of(features, places)))
        x = [
            pooled(features.values[place], features.contrasts, fusion, case.name)
            for case, place in zip(usable, places, strict=True)
        ]
        return Design(usable, np.stack(x))
    if needs != "views":
        raise ValueError(f"a head that needs {needs!r} does not learn on cached features")
    if fusion != "mean":
        raise ValueError("fusion is for heads on pooled views; this one gets every view with its contrast")
    order = list(dict.fromkeys(features.contrasts))
    contrast = np.array([order.index(name) for name in features.contrasts])
    values = features.values[places].astype(np.float32)
    if (lacks := np.isnan(values).any(axis=(1, 2))).any():
        raise ValueError(f"{usable[int(lacks.argmax())].name} lacks a contrast; a head on all views needs every one")
    return Design(usable, Views(values, features.position_mm[places], contrast))


def encoded(task: Task, features: Features, cases: Sequence[Case]) -> tuple[tuple[Case, ...], list[int]]:
    """The cases that were encoded, and their rows.

    Raises:
        ValueError: there are none.
    """
    rows = rows_of(features)
    usable = tuple(case for case in cases if case.name in rows)
    if not usable:
        raise ValueError(
            f"the features hold none of the {len(cases)} cases of task {task.name}; encode its cohort first"
        )
    return usable, [rows[case.name] for case in usable]


def means_of(features: Features, places: Sequence[int]) -> Means:
    """The mean over the views of each contrast of these rows."""
    return np.stack([by_contrast(features.values[place], features.contrasts) for place in places])


def rows_of(features: Features) -> dict[str, int]:
    """Case name to row, for the cases that were encoded."""
    good = features.cases["status"].to_numpy() == "ok"
    return {str(name): row for row, name in enumerate(features.cases["case"]) if good[row]}


def targets(task: Task, cases: Sequence[Case]) -> np.ndarray:
    """Targets of `cases`: class names, float64 values, or float64 pairs (time, event)."""
    columns = [[case.participant[column] for column in task.target] for case in cases]
    if task.kind == "classification":
        return np.array([str(row[0]) for row in columns])
    numbers = np.array([[float(value) for value in row] for row in columns], np.float64)
    return numbers if task.kind == "survival" else numbers[:, 0]


def covariates(task: Task, y: np.ndarray) -> Float[np.ndarray, "case covariate"]:
    """What ComBat must keep: classes but one as 0 and 1, or the standardised value; nothing for survival."""
    if task.kind == "classification":
        return np.asarray((y[:, None] == np.unique(y)[1:]).astype(float))
    if task.kind == "regression":
        return np.asarray((y - y.mean())[:, None] / (y.std() or 1.0))
    return np.zeros((len(y), 0))
