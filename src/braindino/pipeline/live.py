"""Heads that run the encoder live: from cases to the pictures that they see, to answers and to label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindino.fitting.scratch import Scratch
from braindino.heads import Live, slice_model, slice_recipe, written_and_scored
from braindino.pipeline.design import targets
from braindino.pipeline.perturbing import Perturbation, back_in_place
from braindino.progress import note, progress
from braindino.record import NO_ROOM
from braindino.tasks import answered, learned
from braindino.types import Case, Encoder, Head, Task
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess, to_slices

CLEAN = Perturbation()
AT_ONCE = 16
"""Cases whose pictures are held while a split is answered."""


def labelled(task: Task, encoder: Encoder, cases: Sequence[Case], head: str) -> tuple[Live, np.ndarray]:
    """Pictures of every case that can be read, and what a head learns of their targets; of the others it is told why.

    The pictures lie in a temporary file.

    Raises:
        ValueError: as `slice_model`, or no case can be read, or the disk has no room for the pictures.
    """
    with Scratch(head, len(cases)) as scratch:
        x, kept, reasons = live(encoder, cases, onto=scratch)
    for name, reason in reasons.items():
        note(f"{name} is left out of learning: {reason}")
    if not kept:
        raise ValueError(f"none of {len(cases)} cases of task {task.name} can be read; the reasons stand above")
    return x, learned(task, targets(task, kept))


def live(
    encoder: Encoder, cases: Sequence[Case], perturbation: Perturbation = CLEAN, onto: Scratch | None = None
) -> tuple[Live, tuple[Case, ...], dict[str, str]]:
    """The pictures of cases through the encoder's recipe, the cases that could be read, and why the others could not.

    With `onto` they are written there, and mapped.

    Raises:
        ValueError: as `slice_model`, or the disk has no room for all of them.
    """
    slice_model(encoder, "with a gradient")
    recipe = slice_recipe(encoder)
    pictures, places, kept, reasons = [], [], [], {}
    for case in cases:
        try:
            prepared = preprocess(perturbation.of(read_case(case.scans)), recipe)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            reasons[case.name] = str(error)
            continue
        slices = to_slices(prepared.voxels)
        views = slices.reshape(len(slices) * len(prepared.contrasts), -1, *slices.shape[2:])
        views = views.astype(np.float16)
        if onto is None:
            pictures.append(views)
        else:
            onto.require_room(len(views), views.nbytes)
            places.append(onto.write(views))
        kept.append(case)
    return Live(encoder, tuple(pictures) if onto is None else onto.mapped(places)), tuple(kept), reasons


def answers(
    task: Task, encoder: Encoder, head: Head, cases: Sequence[Case], perturbation: Perturbation
) -> list[dict[str, Any]]:
    """Status and outputs of each case, by names as those of heads on features."""
    names = [f"output_{name}" for name in task.classes] or ["output"]
    found: list[dict[str, Any]] = []
    with progress(f"predict {encoder.name}", len(cases)) as advance:
        for first in range(0, len(cases), AT_ONCE):
            some = cases[first : first + AT_ONCE]
            x, kept, reasons = live(encoder, some, perturbation)
            rows = answered(task, head.predict(x)) if kept else ()  # type: ignore[attr-defined]
            given = {
                case.name: dict(zip(names, map(float, row), strict=True)) for case, row in zip(kept, rows, strict=True)
            }
            for case in some:
                status = reasons.get(case.name, "ok")
                found.append({"status": status, **given.get(case.name, {})})
            advance(len(some))
    return found


def segmented(
    task: Task, encoder: Encoder, head: Head, cases: Sequence[Case], perturbation: Perturbation, out: Path | None
) -> list[dict[str, Any]]:
    """Status and scores of each case by a dense head; its label map goes to `out`, where there is one."""
    found: list[dict[str, Any]] = []
    with progress(f"segment {encoder.name}", len(cases)) as advance:
        for case in cases:
            try:
                found.append({"status": "ok", **_segmented(task, encoder, head, case, perturbation, out)})
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                found.append({"status": str(error)})
            advance()
    return found


def _segmented(
    task: Task, encoder: Encoder, head: Head, case: Case, perturbation: Perturbation, out: Path | None
) -> dict[str, float]:
    """Scores of one case. The head sees the perturbed volume; its label map is scored on the scan's own voxels."""
    original = read_case(case.scans)
    volume, numbers = perturbation.traced(original)
    labels = head.predict_dense(encoder, task, volume)  # type: ignore[attr-defined]
    labels = back_in_place(labels, numbers, original.voxels.shape[1:])
    return written_and_scored(task, case, original, labels, out)
