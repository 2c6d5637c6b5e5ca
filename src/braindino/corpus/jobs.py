"""Run one function over many jobs: in this process, in local processes, or on a Dask cluster. A lost worker costs a
retry of what it was doing, not the run."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from braindino.record import versions
from braindino.types import Case, Scan

RETRIES = 3
"""So often a job is given to another worker after its worker died."""
PATIENCE_S = 20
"""Seconds to wait for a scheduler."""


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int, cluster: str | None = None
) -> Iterator[tuple[int, Any]]:
    """`function(*job)` for every job; yields (number of the job, result) in the order in which they finish.

    Args:
        function: importable by its module's name, so that other processes find it.
        jobs: its arguments.
        workers: local processes; with one of them, or one job, everything runs in this process.
        cluster: address of a Dask scheduler instead.

    Raises:
        ValueError: the workers of one job died `RETRIES` times in a row, or the cluster cannot be used.
    """
    if cluster is not None:
        yield from _on_cluster(function, jobs, cluster)
    elif workers <= 1 or len(jobs) <= 1:
        yield from ((number, function(*job)) for number, job in enumerate(jobs))
    else:
        yield from _in_processes(function, jobs, workers)


def _in_processes(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[int, Any]]:
    """A process pool. Where it loses a worker, the jobs that may have been its last are done alone, one after the
    other, so that memory is theirs and the culprit is known; then a new pool takes the rest.
    """
    left = dict(enumerate(jobs))
    while left:
        try:
            for number, result in _one_pool(function, left, workers):
                del left[number]
                yield number, result
        except BrokenProcessPool:
            for number in list(left)[: 2 * workers + 1]:
                yield number, _alone(function, left.pop(number))


def _alone(function: Callable[..., Any], job: tuple[Any, ...]) -> Any:
    for _ in range(RETRIES):
        try:
            return next(_one_pool(function, {0: job}, 1))[1]
        except BrokenProcessPool:
            continue
    raise ValueError(_died(job))


def _one_pool(
    function: Callable[..., Any], jobs: dict[int, tuple[Any, ...]], workers: int
) -> Iterator[tuple[int, Any]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=end_with_parent) as pool:
        numbers = {pool.submit(function, *job): number for number, job in jobs.items()}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever; it ends instead."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], address: str
) -> Iterator[tuple[int, Any]]:
    """Jobs on a Dask scheduler; it gives the jobs of a lost worker to another one."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ValueError("--cluster needs Dask: pip install 'braindino[cluster]'") from None
    try:
        client = Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        _same_versions(client.run(versions), address)
        futures = [client.submit(function, *job, pure=False, retries=RETRIES) for job in jobs]
        numbers = {future.key: number for number, future in enumerate(futures)}
        for future in as_completed(futures, loop=client.loop):
            try:
                yield numbers[future.key], future.result()
            except KilledWorker:
                raise ValueError(_died(jobs[numbers[future.key]])) from None


def _same_versions(found: dict[str, dict[str, str]], address: str) -> None:
    """Refuse workers whose bytes may differ: another version of this package or of a library that makes numbers."""
    here = versions()
    for worker, there in found.items():
        for name in sorted(here.keys() - {"python", "machine"}):
            if there.get(name) != here[name]:
                raise ValueError(
                    f"{worker} of the cluster at {address} has {name} {there.get(name)}, this process {here[name]}; "
                    "start the workers in the same environment"
                )


def _died(job: tuple[Any, ...]) -> str:
    parts = [part.scans if isinstance(part, Case) else part for part in job]
    several = [part if isinstance(part, tuple) else (part,) for part in parts]
    files = [scan.path.name for scans in several for scan in scans if isinstance(scan, Scan)]
    what = ", ".join(files) or job[1:] or job
    return (
        f"a worker died {RETRIES} times while it did {what}; it may need more memory than there "
        "is. Use fewer workers or leave these scans out; the same command then goes on"
    )
