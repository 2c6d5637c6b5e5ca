"""One task, encoder and head over all fractions of the training subjects and draws of them: one predictions folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from braindino.config import to_dict
from braindino.corpus.audit import LeakageError
from braindino.pipeline.encode import read_features
from braindino.pipeline.fit import FittedHead, fit
from braindino.pipeline.leakage import concerned
from braindino.pipeline.loading import EncoderChoice
from braindino.pipeline.perturbing import Perturbation
from braindino.pipeline.predict import predict
from braindino.progress import note
from braindino.record import digest, fingerprint_of, is_done, write_record, write_table
from braindino.tasks import reported
from braindino.types import Encoder, Features, Task


@dataclass(frozen=True)
class Sweep:
    """What is to be done, and where it goes."""

    task: Task
    encoder: str
    """Its name in the tables."""
    head: str
    on: Path | EncoderChoice
    """Features folder, or the encoder for a dense head."""
    perturbed: tuple[Path, ...] | tuple[Perturbation, ...]
    """Features of the reported cases under perturbations, or the perturbations where the encoder runs live; for the
    head of all training subjects."""
    fractions: tuple[float, ...]
    draws: int
    out: Path
    acknowledge: tuple[str, ...] = ()
    """As for `fit`; of many tasks and encoders each takes those names that concern it."""

    def fits(self) -> Iterator[tuple[float, int]]:
        """Fraction and draw; all training subjects can be drawn in one way only."""
        for fraction in self.fractions:
            yield from ((fraction, draw) for draw in range(1 if fraction == 1 else self.draws))


def sweep(what: Sweep) -> None:
    """Fit and predict everything, then write the folder; a finished one is not done again.

    A fraction below 1 on which the head cannot be learned (too few subjects, events or classes) has no rows; the reason
    is told and stands in the record (facts, left_out).

    Raises:
        ValueError: as `fit` on all training subjects, as `predict`, or no fraction on which the head can be learned.
        LeakageError: as `fit`.
    """
    import torch

    torch.set_num_threads(1)
    on = what.on.load() if isinstance(what.on, EncoderChoice) else read_features(what.on)
    parents = {one.name: fingerprint_of(one) for one in what.perturbed if isinstance(one, Path)}
    parents["on"] = fingerprint_of(what.on) if isinstance(what.on, Path) else on.digest()  # type: ignore[union-attr]
    config = {
        **{"task": what.task.name, "protocol": what.task.protocol, "split": digest(sorted(what.task.split.items()))},
        **{"encoder": what.encoder, "head": what.head, "fractions": list(what.fractions), "draws": what.draws},
    }
    if live := [to_dict(one) for one in what.perturbed if isinstance(one, Perturbation)]:
        config["perturbed"] = live
    if is_done(what.out, "predict", config, parents):
        return
    names = concerned(what.task, on, what.acknowledge)
    tables: list[pd.DataFrame] = []
    left: dict[str, str] = {}
    for fraction, draw in what.fits():
        try:
            head = fit(what.task, on, what.head, fraction=fraction, seed=draw, acknowledge=names)
        except ValueError as error:
            if fraction == 1 or isinstance(error, LeakageError):
                raise
            left[f"fraction {fraction:g}, draw {draw}"] = str(error)
            continue
        tables.extend(_answers(what, on, head, names))
    for where, reason in left.items():
        note(f"{what.out.name}: {where} is left out: {reason}")
    if not tables:
        raise ValueError(f"{what.out.name}: the head cannot be learned on any fraction: {next(iter(left.values()))}")
    table = pd.concat(tables, ignore_index=True).assign(encoder=what.encoder)
    write_table(what.out / "predictions.tsv", table)
    facts = {"cases": len(table), "failed": int((table["status"] != "ok").sum()), "left_out": left}
    write_record(what.out, "predict", config, parents=parents, facts=facts)


def _answers(what: Sweep, on: Features | Encoder, head: FittedHead, names: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """The reported cases, and after all training subjects also the perturbed ones."""
    split, whole = reported(what.task), head.fraction == 1
    how: Any = {"split": split, "acknowledge": names}
    yield predict(what.task, on, head, out=what.out if whole else None, **how).table
    for one in what.perturbed if whole else ():
        if isinstance(one, Path):
            yield predict(what.task, read_features(one), head, **how).table
        else:
            yield predict(what.task, on, head, **how, perturbation=one).table
