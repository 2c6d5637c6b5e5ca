"""fit: task + features -> head (dense tasks: task + live encoder -> head). The artefact is a head folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindino import catalog
from braindino.fitting.combat import fit_combat
from braindino.fitting.fusion import ContrastWeights, fit_weights
from braindino.pipeline.around import Around, Asked, fit_after, from_state, known_sites
from braindino.pipeline.design import covariates, design, encoded, means_of, of_task, targets
from braindino.pipeline.leakage import refuse_pretrained
from braindino.pipeline.live import labelled
from braindino.pipeline.sources import read_root, together
from braindino.pipeline.split import read_split
from braindino.progress import note
from braindino.record import read_record, write_bytes, write_record
from braindino.stats.names import encoder_name, head_name
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
    contrasts: tuple[str, ...]
    """Those of the views that it learned on, in their order: the task's own; () for a head on patch tokens."""
    subjects: tuple[str, ...]
    """The training subjects."""
    asked: Asked
    """What was to be put around the head."""
    around: Around
    cohort: str = ""
    """Of the task."""
    protocol: str = "three_way"
    """Of the task's split."""
    steps: int = 0
    """Of training, as asked for; 0: the head's own number."""
    variant: str = ""
    """Of the encoder; "" where it has but one, or where it was not told (heads of earlier versions)."""

    @property
    def model(self) -> tuple[str, str]:
        """What tables call it: encoder and head (see `stats.names`)."""
        asked = self.asked
        encoder = encoder_name(self.encoder, self.variant, self.pooling, asked.fusion)
        return encoder, head_name(self.name, asked.combat, asked.calibrate)


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
    asked: Asked = Asked(),  # noqa: B008 (frozen)
    acknowledge: Sequence[str] = (),
    steps: int = 0,
) -> FittedHead:
    """Learn a head on the training subjects, choosing its settings on the validation subjects.

    Args:
        task: the question, with its split.
        features: cached features, of which the views of the task's own contrasts are taken; or the encoder itself for a
            head that needs patch tokens or trains in a copy of it.
        head: plug-in name (see `braindino list heads`).
        fraction: share of the training subjects, stratified and nested.
        seed: which draw of that share, and the head's own randomness; the split has a seed of its own.
        asked: fusion of contrasts, calibration, coverage and ComBat (heads on features).
        acknowledge: subjects ("cohort/subject") or cohorts that are reported on although the encoder was pretrained on
            them.
        steps: of training, for heads that have a constant `STEPS`; 0: that many.

    Raises:
        ValueError: a head that does not serve the task's kind, features that lack every training case or a contrast of
            the task (see `design.of_task`), encoder weights that changed while fitting (frozen is a fact), steps for a
            head that has none, or what `asked` says has no meaning or too few subjects.
        LeakageError: the encoder was pretrained on subjects that are reported on and are not in `acknowledge`.
    """
    refuse_pretrained(task, features, acknowledge)
    module = catalog.load("heads", head)
    if task.kind not in module.Fitted.kinds:
        raise ValueError(f"head {head!r} serves {', '.join(module.Fitted.kinds)}, but {task.name} is {task.kind}")
    asked.check(task)
    assert task.classes == tuple(sorted(task.classes)), "heads give probabilities in sorted order of the classes"
    if steps < 0 or (steps and not hasattr(module, "STEPS")):
        raise ValueError(f"steps is {steps}, but head {head!r} decides itself how long it learns; leave it out (0)")
    train, around = training_cases(task, fraction, seed), Around()
    contrasts: tuple[str, ...] = ()
    if task.kind == "segmentation" or module.Fitted.needs == "gradient":
        if isinstance(features, Features):
            what = "patch tokens" if task.kind == "segmentation" else "a copy of the encoder to train in"
            raise ValueError(f"head {head!r} needs {what}: give the encoder's weights, not cached features")
        fitted = _on_encoder(task, features, head, train, seed, asked, steps)
        named = (features.name, features.digest(), features.recipe.hash(), "none")
    else:
        if not isinstance(features, Features):
            raise ValueError(f"head {head!r} learns on cached features: run encode first")
        features = of_task(task, features)
        fitted, around = _on_features(task, features, head, train, seed, asked)
        named = (features.encoder, features.encoder_digest, features.recipe, features.pooling)
        contrasts = tuple(dict.fromkeys(features.contrasts))
    subjects = tuple(sorted({case.subject for case in train}))
    about = {"cohort": task.cohort, "protocol": task.protocol, "variant": getattr(features, "variant", "")}
    return FittedHead(
        fitted, head, task.name, *named, fraction, seed, contrasts, subjects, asked, around, steps=steps, **about
    )


def _on_encoder(
    task: Task, encoder: Encoder, name: str, cases: Sequence[Case], seed: int, asked: Asked, steps: int
) -> Head:
    """A dense head, or one that trains in a copy of the encoder; the encoder itself must be the same afterwards."""
    module, before = catalog.load("heads", name), encoder.digest()
    how = {"seed": seed} | ({"steps": steps} if steps else {})
    head: Head
    if task.kind == "segmentation":
        head = module.fit_dense(encoder, task, cases, task.cases_of("validation"), **how)
    else:
        if asked != Asked():
            raise ValueError(
                f"calibration, coverage, ComBat and fusion are for heads on cached features, head {name!r} has none"
            )
        x, y = labelled(task, encoder, cases, name)
        head = module.fit(x, y, labelled(task, encoder, task.cases_of("validation"), name), kind=task.kind, **how)
    if encoder.digest() != before:
        raise ValueError("the encoder's own weights changed while fitting; they never may")
    return head


def _on_features(
    task: Task, features: Features, name: str, cases: Sequence[Case], seed: int, asked: Asked
) -> tuple[Head, Around]:
    """ComBat, the head, then what stands after it, each learned where it may be."""
    module, fusion = catalog.load("heads", name), _fusion(task, features, cases, asked)
    train = design(task, features, cases, module.Fitted.needs, fusion or asked.fusion)
    y = learned(task, targets(task, train.cases))
    combat = fit_combat(train.pooled, train.sites, covariates(task, y)) if asked.combat else None
    found = design(task, features, task.cases_of("validation"), module.Fitted.needs, fusion or asked.fusion)
    validation = known_sites(combat, found)
    if validation is None:
        raise ValueError("no validation case comes from a site that ComBat knows; leave it off")
    if len(validation.cases) < len(found.cases):
        left = sorted({case.name for case in found.cases} - {case.name for case in validation.cases})
        note(f"validation cases of sites unknown to ComBat are left out: {len(left)} ({', '.join(left)})")
    train = known_sites(combat, train) or train
    held = (validation.x, learned(task, targets(task, validation.cases)))
    head: Head = module.fit(train.x, y, held, kind=task.kind, seed=seed)
    return head, fit_after(asked, task, head, Around(fusion, combat), train, validation)


def _fusion(task: Task, features: Features, cases: Sequence[Case], asked: Asked) -> ContrastWeights | None:
    """The weights of the contrasts where they are to be learned."""
    if asked.fusion != "weighted":
        return None
    rows = []
    for part in (cases, task.cases_of("validation")):
        usable, places = encoded(task, features, part)
        rows.append((means_of(features, places), learned(task, targets(task, usable))))
    (x, y), held = rows
    found = fit_weights(tuple(dict.fromkeys(features.contrasts)), x, y, held, kind=task.kind)
    note(f"contrasts weigh {found}")
    return found


def write_head(fitted: FittedHead, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `head.safetensors`, `around.safetensors` where anything stands around the head, and the record."""
    from safetensors.numpy import save

    for file, state in (("head", fitted.head.state()), ("around", fitted.around.state())):
        if state or file == "head":
            arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
            write_bytes(Path(out) / f"{file}.safetensors", save(arrays))
    arrays_or_lists = ("head", "around", "asked", "subjects", "contrasts")
    config: dict[str, Any] = {n: getattr(fitted, n) for n in fitted.__dataclass_fields__ if n not in arrays_or_lists}
    lists = {"contrasts": list(fitted.contrasts), "subjects": list(fitted.subjects)}
    write_record(Path(out), "fit", config | asdict(fitted.asked) | lists, parents=parents)


def read_head(folder: Path) -> FittedHead:
    """Read a head folder, verified.

    Raises:
        ValueError: not a finished head folder, or a changed file.
    """
    from safetensors.numpy import load_file

    config = dict(read_record(Path(folder), "fit")["config"])
    state = load_file(Path(folder) / "head.safetensors")
    head = catalog.load("heads", config["name"]).from_state(state)
    beside = Path(folder) / "around.safetensors"
    around = from_state(load_file(beside)) if beside.is_file() else Around()
    asked = Asked(**{field.name: config.pop(field.name) for field in fields(Asked)})
    lists = {name: tuple(config[name]) for name in ("contrasts", "subjects")}
    return FittedHead(head=head, asked=asked, around=around, **{**config, **lists})
