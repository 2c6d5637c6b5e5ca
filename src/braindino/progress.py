"""Progress with an estimate of the time left: a bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 10.0


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show the progress of `total` items on stderr; yields `advance(n=1, note="")`.

    Args:
        label: what is being done.
        total: number of items.
        done: items finished earlier (a resumed run); they do not count for the speed.
    """
    if sys.stderr.isatty():
        with _bar(label, total, done) as advance:
            yield advance
    else:
        yield _lines(label, total, done)


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


def _lines(label: str, total: int, done: int) -> Callable[..., None]:
    start = last = time.monotonic()
    finished = done

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal finished, last
        finished += count
        now = time.monotonic()
        if finished < total and now - last < LINE_SECONDS:
            return
        last = now
        left = (now - start) / max(finished - done, 1) * (total - finished)
        eta = f", {left:.0f} s left" if finished < total else f", took {now - start:.0f} s"
        print(f"{label}: {finished}/{total}{eta} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance


def note(line: str) -> None:
    """Say one thing on stderr that nobody asked for but everybody should know, in at most two lines of a terminal."""
    short = line if len(line) <= 160 else f"{line[:120]} ... ('braindino check' tells all)"
    print(f"note: {short}", file=sys.stderr, flush=True)
