"""fit: task + features -> head (dense tasks: task + live encoder -> head). The artefact is a head folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from braindino import catalog
from braindino.pipeline.leakage import refuse_pretrained
from braindino.pipeline.sources import read_root, together
from braindino.pipeline.split import read_split
from braindino.record import read_record, write_bytes, write_record
from braindino.tasks import divided, learned, training_cases
from braindino.types import Case, Encoder, Features, Head, Task

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FittedHead:
    """A head with what must be known to use it: on which task, encoder, recipe, fraction and draw it was learned."""

    head: Head
    name: str
    task: str
    encoder: str
    encoder_digest: str
    recipe: str
    pooling: str
    """That of the features; "none" for a head on patch tokens."""
    fraction: float
    seed: int
    subjects: tuple[str, ...]
    """The training subjects."""
    cohort: str = ""
    """Of the task."""
    protocol: str = "three_way"
    """Of the task's split."""


def load_task(
    name: str,
    root: Path | str | Sequence[Path | str],
    cohort: str = "bids",
    seed: int = 0,
    *,
    protocol: str = "three_way",
    split: Path | None = None,
) -> Task:
    """A task by its plug-in name on one cohort or several, with its split by subject.

    The task's cohort is the name that the cohort's scans carry, as in a corpus made of them; several stand with a plus
    between them, and subjects of two of them never have one name (see `pipeline.sources.together`).

    Args:
        name: of the task plug-in (see `braindino list tasks`).
        root: the cohort's folder, or several, each a folder or the word `cohort=folder`.
        cohort: plug-in for the folders without a word.
        seed: of the split; nothing else depends on it.
        protocol: `three_way`, `paper` or `site:NAME` (see `tasks.divided`).
        split: a file or folder of `braindino split` to take split and protocol from, instead of drawing them.

    Raises:
        ValueError: unknown task, cohort or protocol, a folder that does not fit the cohort, too few subjects for the
            task, or a split file that does not fit it.
        LeakageError: a split file with a subject or a family on two sides.
    """
    build = catalog.load("tasks", name).build
    if split is not None and (protocol, seed) != ("three_way", 0):
        raise ValueError("a split file says the protocol and the split; leave protocol and the seed of the split out")
    words = [root] if isinstance(root, str | Path) else list(root)
    if not words:
        raise ValueError("a task needs the folder of its cohort: give --root [COHORT=]PATH, once or several times")
    cases = together([read_root(word, cohort) for word in words])
    named = "+".join(dict.fromkeys(scan.cohort for case in cases for scan in case.scans)) or cohort
    task: Task = build(named, cases, seed)
    return read_split(split, task) if split is not None else divided(task, protocol, seed)


def fit(
    task: Task,
    features: Features | Encoder,
    head: str = "linear",
    *,
    fraction: float = 1.0,
    seed: int = 0,
    acknowledge: Sequence[str] = (),
) -> FittedHead:
    """Learn a head on the training subjects, choosing its settings on the validation subjects.

    Args:
        task: the question, with its split.
        features: cached features, or the encoder itself for a head that needs patch tokens.
        head: plug-in name (see `braindino list heads`).
        fraction: share of the training subjects, stratified and nested.
        seed: which draw of that share, and the head's own randomness; the split has a seed of its own.
        acknowledge: subjects ("cohort/subject") or cohorts that are reported on although the encoder was pretrained on
            them.

    Raises:
        ValueError: a head that does not serve the task's kind, features that lack every training case, or encoder
            weights that changed while fitting (frozen is a fact).
        LeakageError: the encoder was pretrained on subjects that are reported on and are not in `acknowledge`.
    """
    refuse_pretrained(task, features, acknowledge)
    module = catalog.load("heads", head)
    if task.kind not in module.Fitted.kinds:
        raise ValueError(f"head {head!r} serves {', '.join(module.Fitted.kinds)}, but {task.name} is {task.kind}")
    assert task.classes == tuple(sorted(task.classes)), "heads give probabilities in sorted order of the classes"
    train, validation = training_cases(task, fraction, seed), task.cases_of("validation")
    if task.kind == "segmentation":
        if isinstance(features, Features):
            raise ValueError(
                f"segmentation needs patch tokens: give {head!r} the encoder's weights, not cached features"
            )
        before = features.digest()
        fitted = module.fit_dense(features, task, train, validation, seed=seed)
        if features.digest() != before:
            raise ValueError("the encoder's weights changed while fitting a head on a frozen encoder")
        named = (features.name, before, features.recipe.hash(), "none")
    else:
        if not isinstance(features, Features):
            raise ValueError(f"head {head!r} learns on cached features: run encode first")
        x, y = design(task, features, train)
        seen, truth = design(task, features, validation)
        fitted = module.fit(x, learned(task, y), (seen, learned(task, truth)), kind=task.kind, seed=seed)
        named = (features.encoder, features.encoder_digest, features.recipe, features.pooling)
    subjects = tuple(sorted({case.subject for case in train}))
    about = {"cohort": task.cohort, "protocol": task.protocol}
    return FittedHead(fitted, head, task.name, *named, fraction, seed, subjects, **about)


def design(task: Task, features: Features, cases: Sequence[Case]) -> tuple[Float[np.ndarray, "case dim"], np.ndarray]:
    """Design matrix (mean over views of each case, float64) and targets of the cases that were encoded.

    Targets: class name, value, or (time, event).

    Raises:
        ValueError: none of the cases has features.
    """
    rows = rows_of(features)
    usable = [case for case in cases if case.name in rows]
    if not usable:
        raise ValueError(
            f"the features hold none of the {len(cases)} cases of task {task.name}; encode its cohort first"
        )
    x = np.stack([features.values[rows[case.name]].astype(np.float64).mean(axis=0) for case in usable])
    return x, targets(task, usable)


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


def write_head(fitted: FittedHead, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `head.safetensors` and the record."""
    from safetensors.numpy import save

    state = {name: np.ascontiguousarray(array) for name, array in fitted.head.state().items()}
    write_bytes(Path(out) / "head.safetensors", save(state))
    config: dict[str, Any] = {
        name: getattr(fitted, name) for name in fitted.__dataclass_fields__ if name not in ("head", "subjects")
    }
    write_record(Path(out), "fit", config | {"subjects": list(fitted.subjects)}, parents=parents)


def read_head(folder: Path) -> FittedHead:
    """Read a head folder, verified.

    Raises:
        ValueError: not a finished head folder, or a changed file.
    """
    from safetensors.numpy import load_file

    config = dict(read_record(Path(folder), "fit")["config"])
    state = load_file(Path(folder) / "head.safetensors")
    head = catalog.load("heads", config["name"]).from_state(state)
    return FittedHead(head=head, **{**config, "subjects": tuple(config["subjects"])})
