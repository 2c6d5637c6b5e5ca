"""Many cases into the parts of a features folder: in this process, in local processes, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from braindino.corpus.jobs import run_jobs
from braindino.pipeline.encoding import OK, How, row, rows
from braindino.pipeline.loading import EncoderChoice
from braindino.pipeline.parts import check_room, is_encoded, write_part
from braindino.progress import progress
from braindino.types import Case, Encoder


def encode_parts(
    cases: Sequence[Case],
    choice: EncoderChoice,
    encoder: Encoder,
    out: Path,
    how: How,
    workers: int,
    cluster: str | None,
) -> None:
    """Write a part for each case that has none yet (see `encode_folder`)."""
    patch = how.level == "patch"
    todo = [number for number in range(len(cases)) if not is_encoded(out, number, patch=patch)]
    with progress(f"encode {encoder.name}", len(cases), len(cases) - len(todo)) as advance:
        if patch:
            advance(_encode_first(cases, encoder, out, how, todo, alone=workers < 2 and cluster is None))
        if cluster is None and (workers < 2 or len(todo) < 2):
            with _threads(None if workers < 2 else 1):
                for number, one in zip(todo, rows([cases[n] for n in todo], encoder, how), strict=True):
                    write_part(out, number, one)
                    advance()
            return
        known, here = encoder.digest(), replace(choice, weights=choice.weights and choice.weights.absolute())
        jobs = [(out.absolute(), number, _absolute(cases[number]), here, known, how) for number in todo]
        for _ in run_jobs(_encode_part, jobs, workers, cluster):
            advance()


def _encode_first(cases: Sequence[Case], encoder: Encoder, out: Path, how: How, todo: list[int], *, alone: bool) -> int:
    """Encode cases up to the first that can be, and require that there is room for the others; how many were done."""
    done = 0
    with _threads(None if alone else 1):
        while todo:
            number = todo[0]
            one = row(cases[number], encoder, how)
            if one.status == OK:
                check_room(out, one, len(todo))
            write_part(out, todo.pop(0), one)
            done += 1
            if one.status == OK:
                break
    return done


def _encode_part(out: Path, number: int, case: Case, choice: EncoderChoice, known: str, how: How) -> None:
    """One case, in a worker."""
    encoder = _loaded(choice, known)
    with _threads(1):
        write_part(out, number, row(case, encoder, how))


@lru_cache(maxsize=1)
def _loaded(choice: EncoderChoice, known: str) -> Encoder:
    """Once per worker.

    Raises:
        ValueError: other weights than those of the process that asks.
    """
    encoder = choice.load()
    if encoder.digest() != known:
        raise ValueError(f"{choice.weights} changed while it was used; let it be, and run the command again")
    return encoder


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads; None: as many as it does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _absolute(case: Case) -> Case:
    """The case as other processes find it, whose working folder may be another one."""
    scans = []
    for scan in case.scans:
        mask = scan.brain_mask.absolute() if scan.brain_mask else None
        scans.append(replace(scan, path=scan.path.absolute(), brain_mask=mask, label_map=None))
    return replace(case, scans=tuple(scans), participant={})
