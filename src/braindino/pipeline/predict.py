"""predict: task + features + head -> predictions. One table, one row per case, failed cases included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindino.pipeline.around import columns_of
from braindino.pipeline.design import design, of_task, targets, used
from braindino.pipeline.fit import FittedHead
from braindino.pipeline.leakage import pretrained, refuse_pretrained, refuse_trained
from braindino.pipeline.live import CLEAN, answers, segmented
from braindino.pipeline.perturbing import Perturbation
from braindino.record import read_record, read_table, write_record, write_table
from braindino.stats.names import encoder_name
from braindino.tasks import known, reported
from braindino.types import Case, Encoder, Features, Predictions, Split, Task

TEXT = (*("task", "kind", "metric", "encoder", "head", "perturbation", "protocol", "split", "subject", "case", "site"),
        *("pretrained", "status"))  # fmt: skip
SOME_HAVE = ("set", "contrasts", "sex", "family")
"""Text columns that a table may have."""


def predict(
    task: Task,
    features: Features | Encoder,
    fitted: FittedHead,
    *,
    split: Split = "test",
    out: Path | None = None,
    acknowledge: Sequence[str] = (),
    perturbation: Perturbation = CLEAN,
) -> Predictions:
    """Apply a head to the cases of one split.

    Args:
        task: the question.
        features: cached features (also perturbed ones: the clean head is reused), of which the views of the task's own
            contrasts are taken; or the encoder for dense heads and those that trained in a copy of it.
        fitted: the head.
        split: which subjects.
        out: for dense heads, the folder into which label maps go (in the scan's own space).
        acknowledge: as for `fit`.
        perturbation: of each volume before preprocessing, where the encoder runs live; label maps are carried back to
            the scan's own voxels, and scored there.

    Raises:
        ValueError: another task, encoder, variant, recipe, pooling or contrasts than the head was learned on, no cases,
            none of them from a site that the head's ComBat knows, or a perturbation beside cached features.
        LeakageError: the head was trained on a subject that is not a training subject here (it was fitted with another
            split), or the encoder was pretrained on one that is reported on and is not in `acknowledge`.
    """
    if fitted.task != task.name:
        raise ValueError(f"the head was learned on task {fitted.task!r}, not on {task.name!r}")
    features, perturbation = _fitting(task, features, fitted, perturbation)
    cases = task.cases_of(split)
    if not cases:
        hint = "; the paper's protocol reports on validation: --split validation" if task.protocol == "paper" else ""
        raise ValueError(f"task {task.name} has no cases in split {split!r}{hint}")
    refuse_trained(task, fitted.subjects, fitted.cohort)
    if split == reported(task):
        refuse_pretrained(task, features, acknowledge)
    if isinstance(features, Features):
        outputs = _from_features(task, features, fitted, cases)
    elif task.kind != "segmentation":
        outputs = answers(task, features, fitted.head, cases, perturbation)
    else:
        outputs = segmented(task, features, fitted.head, cases, perturbation, out)
    table = _table(task, fitted, cases, outputs, split, perturbation)
    if isinstance(features, Features):
        table["contrasts"] = used(task, features, cases)
    table.insert(table.columns.get_loc("status"), "pretrained", pretrained(cases, features))
    return Predictions(table)


def _fitting(
    task: Task, features: Features | Encoder, fitted: FittedHead, perturbation: Perturbation
) -> tuple[Features | Encoder, Perturbation]:
    """What the head can be applied to, with the perturbation; refused where it cannot be."""
    if isinstance(features, Features):
        if perturbation != CLEAN:
            raise ValueError(
                f"cached features are perturbed when they are made (these: {features.perturbation}, severity "
                f"{features.severity}): give --perturb and --severity to encode, and leave them out here"
            )
        features = of_task(task, features)
        theirs: tuple[str, str, str] = (features.encoder_digest, features.recipe, features.pooling)
        perturbation = Perturbation(features.perturbation, features.severity, features.seed)
        contrasts = tuple(dict.fromkeys(features.contrasts))
    else:
        theirs, contrasts = (features.digest(), features.recipe.hash(), "none"), ()
    if theirs != (fitted.encoder_digest, fitted.recipe, fitted.pooling):
        raise ValueError(
            "the head was learned on other encoder weights, another recipe or another pooling; fit it again on these"
        )
    told = (fitted.variant, getattr(features, "variant", ""))
    if all(told) and len({encoder_name(fitted.encoder, one) for one in told}) > 1:
        raise ValueError(f"the head was learned on variant {told[0]!r}, not on {told[1]!r}; fit it again on these")
    if contrasts != fitted.contrasts:
        had, given = ", ".join(fitted.contrasts), ", ".join(contrasts)
        raise ValueError(f"the head was learned on {had}, but task {task.name} takes {given} here; fit it again")
    return features, perturbation


def _from_features(task: Task, features: Features, fitted: FittedHead, cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    """Status and outputs of each case."""
    reasons = dict(zip(features.cases["case"], features.cases["status"], strict=True))
    around = fitted.around
    rows, combat = design(task, features, cases, fitted.head.needs, around.fusion or fitted.asked.fusion), around.combat
    if combat is not None:
        known = np.array([combat.knows(site) for site in rows.sites])
        reasons |= {case.name: combat.unseen(str(case.site)) for case in rows.kept(~known).cases}
        if not known.any():
            raise ValueError(f"{next(iter(rows.cases)).name}: {combat.unseen(rows.sites[0])}, nor that of any other")
        rows = rows.kept(known)
    columns = columns_of(fitted.around, task, fitted.head, rows)
    given = {case.name: {name: column[n] for name, column in columns.items()} for n, case in enumerate(rows.cases)}
    return [
        {"status": "ok", **given[case.name]}
        if case.name in given
        else {"status": reasons.get(case.name, "not encoded")}
        for case in cases
    ]


def _table(
    task: Task,
    fitted: FittedHead,
    cases: tuple[Case, ...],
    outputs: list[dict[str, Any]],
    split: Split,
    perturbation: Perturbation,
) -> Any:
    import pandas as pd

    head: dict[str, Any] = {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metric,
        **dict(zip(("encoder", "head"), fitted.model, strict=True)),
        "fraction": fitted.fraction,
        "seed": fitted.seed,
        "perturbation": perturbation.name,
        "severity": perturbation.severity,
        "protocol": task.protocol,
        "split": split,
    }
    rows = []
    for case, output in zip(cases, outputs, strict=True):
        rows.append({**head, **_identity(case), "status": output.pop("status"), **_target(task, case), **output})
    return pd.DataFrame(rows)


def _identity(case: Case) -> dict[str, Any]:
    """Who it is, and by what `score` tells strata and families apart, where it is known; all its scans are seen."""
    told = {name: case.participant[name] for name in ("sex", "age", "family") if known(case.participant.get(name))}
    contrasts = "+".join(scan.contrast for scan in case.scans)
    return {"subject": case.subject, "case": case.name, "site": case.site, "contrasts": contrasts, **told}


def _target(task: Task, case: Case) -> dict[str, Any]:
    if task.kind == "segmentation":
        return {}
    value = targets(task, [case])[0]
    if task.kind == "survival":
        return {"time": float(value[0]), "event": int(value[1])}
    return {"target": value if task.kind == "classification" else float(value)}


def write_predictions(
    predictions: Predictions, out: Path, parents: Mapping[str, str] | None = None, perturb_seed: int | None = None
) -> None:
    """Write `predictions.tsv` beside the label maps, and the record, with the seed of a perturbation that has one."""
    table = predictions.table
    write_table(Path(out) / "predictions.tsv", table)
    named = ("task", "encoder", "head", "protocol", "split", "perturbation")
    config = {name: table[name].iloc[0] for name in named if name in table}
    numbers = {name: float(table[name].iloc[0]) for name in ("fraction", "seed", "severity")}
    if perturb_seed is not None:
        numbers["perturb_seed"] = float(perturb_seed)
    facts = {"cases": len(table), "failed": int((table["status"] != "ok").sum())}
    write_record(Path(out), "predict", config | numbers, parents=parents, facts=facts)


def read_predictions(folder: Path) -> Predictions:
    """Read a predictions folder, verified.

    Raises:
        ValueError: not a finished predictions folder, or a changed file.
    """
    read_record(Path(folder), "predict")
    table = read_table(Path(folder) / "predictions.tsv", text=(*TEXT, *SOME_HAVE))
    if "target" in table and len(table) and table["kind"].iloc[0] == "classification":
        table["target"] = table["target"].astype(str)
    return Predictions(table)
