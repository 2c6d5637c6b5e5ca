"""Around a head on features: weights of contrasts and ComBat before, calibration, conformal and domain after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from braindino.fitting import calibration, combat, conformal, domain, fusion, risk
from braindino.fitting.calibration import Isotonic, Temperature
from braindino.fitting.combat import Combat
from braindino.fitting.conformal import Conformal
from braindino.fitting.domain import Domain
from braindino.fitting.fusion import ContrastWeights
from braindino.fitting.risk import Threshold
from braindino.pipeline.design import Design, targets
from braindino.pipeline.pooling import Fusion
from braindino.tasks import answered
from braindino.tasks import learned as learned_of
from braindino.types import Calibration, Head, Task

_READ = {
    **{"fusion": fusion, "combat": combat, "calibration": calibration, "conformal": conformal},
    **{"domain": domain, "threshold": risk},
}


@dataclass(frozen=True)
class Asked:
    """What `fit` is asked to put around a head."""

    calibrate: Calibration = "none"
    coverage: float = 0.0
    """Of intervals or sets, for example 0.9; 0: none."""
    combat: bool = False
    fusion: Fusion = "mean"
    """How the contrasts of the features are put together first (see `pipeline.pooling`)."""

    def check(self, task: Task) -> None:
        """Refuse what has no meaning for the kind of the task.

        Raises:
            ValueError: calibration of what is not a probability, a coverage outside [0, 1) or of a censored time, or
                any of it around a dense head.
        """
        if self.calibrate != "none" and task.kind != "classification":
            raise ValueError(f"calibration is for class probabilities, but {task.name} is {task.kind}; leave it off")
        if self.coverage and task.kind not in ("classification", "regression"):
            raise ValueError(f"coverage is for classification and regression, but {task.name} is {task.kind}")
        if not 0 <= self.coverage < 1:
            raise ValueError(f"coverage is {self.coverage}, expected 0 (none) or a share below 1, for example 0.9")
        if self.combat and task.kind == "segmentation":
            raise ValueError("ComBat works on cached features; a dense head does not use them")


@dataclass(frozen=True)
class Around:
    """Learned on training (ComBat, threshold of risk), on validation (calibration, conformal) or on both subjects."""

    fusion: ContrastWeights | None = None
    combat: Combat | None = None
    calibration: Temperature | Isotonic | None = None
    conformal: Conformal | None = None
    domain: Domain | None = None
    threshold: Threshold | None = None

    def state(self) -> dict[str, np.ndarray]:
        """The arrays of each part, as `part.name`."""
        parts = {name: getattr(self, name) for name in _READ}
        return {f"{p}.{name}": a for p, part in parts.items() if part is not None for name, a in part.state().items()}


def from_state(state: Mapping[str, np.ndarray]) -> Around:
    """The inverse of `Around.state`."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = array
    found: dict[str, Any] = {name: _READ[name].from_state(arrays) for name, arrays in parts.items()}
    return Around(**found)


def known_sites(learned: Combat | None, rows: Design) -> Design | None:
    """The cases that ComBat can serve, without the effects of their sites; None where there are none."""
    if learned is None:
        return rows
    kept = np.array([learned.knows(site) for site in rows.sites])
    return rows.kept(kept).without_sites(learned) if kept.any() else None


def fit_after(asked: Asked, task: Task, head: Head, before: Around, train: Design, validation: Design) -> Around:
    """What stands `before` the head, and after it.

    Calibration and conformal on the validation subjects, domain on both; the designs as the head takes them.

    Raises:
        ValueError: too few validation subjects for what is asked.
    """
    output = outputs_of(head, validation)
    truth = learned_of(task, targets(task, validation.cases))
    calibrated = None
    if task.kind == "classification":
        truth = np.searchsorted(task.classes, truth)
        if asked.calibrate != "none":
            calibrated = calibration.fit_calibration(asked.calibrate, output, truth, validation.weight)
            output = calibrated.apply(output)
    promised = None
    if asked.coverage:
        if task.kind == "classification":
            scores = conformal.class_scores(output, truth)
        else:
            scores = np.abs(output[:, 0] - truth)
        promised = conformal.fit_conformal(scores, validation.subjects, asked.coverage)
    threshold = risk.fit_threshold(outputs_of(head, train)[:, 0]) if task.kind == "survival" else None
    kept = domain.fit_domain(train.pooled, validation.pooled)
    return replace(before, calibration=calibrated, conformal=promised, domain=kept, threshold=threshold)


def outputs_of(head: Head, rows: Design) -> Float[np.ndarray, "case output"]:
    """What the head itself says."""
    output: np.ndarray = head.predict(rows.x)  # type: ignore[attr-defined]
    return output


def columns_of(around: Around, task: Task, head: Head, rows: Design) -> dict[str, np.ndarray]:
    """Columns of the predictions table for cases of known sites; see docs/heads.md."""
    rows = rows if around.combat is None else rows.without_sites(around.combat)
    output = outputs_of(head, rows)
    if around.calibration is not None:
        output = around.calibration.apply(output)
    names = [f"output_{name}" for name in task.classes] or ["output"]
    columns = dict(zip(names, answered(task, output).T, strict=True))
    if around.conformal is not None and task.classes:
        chosen = around.conformal.plausible(output)
        classes = np.array(task.classes)
        columns["set"] = np.array(["|".join(classes[row]) for row in chosen])
    elif around.conformal is not None:
        columns["low"], columns["high"] = answered(task, around.conformal.interval(output[:, 0])).T
    if hasattr(head, "survival"):
        shares = head.survival(rows.x)
        columns |= {f"survival_{end:.9g}": share for end, share in zip(head.ends, shares.T, strict=True)}  # type: ignore[attr-defined]
    if around.threshold is not None:
        columns["threshold"] = np.full(len(output), around.threshold.risk)
    if around.domain is not None:
        columns["out_of_domain"] = around.domain.percentile(rows.pooled)
    return columns
