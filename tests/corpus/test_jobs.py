"""A worker that dies costs a retry of its job, not the run."""

import time

import pytest

from braindino.corpus.jobs import run_jobs
from dying import die_always, die_once
from faults import Count, attempts


def test_a_local_worker_that_dies_costs_a_retry(tmp_path):
    done = dict(run_jobs(die_once, [(tmp_path / "died", n) for n in range(4)], 2))
    assert done == {0: 0, 1: 10, 2: 20, 3: 30} and (tmp_path / "died").exists()


def test_a_job_that_always_kills_its_worker_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a worker died 3 times while it did \(1,\)"):
        list(run_jobs(die_always, [(tmp_path, n) for n in range(3)], 2))


def test_no_killed_worker_hangs_a_run(tmp_path):
    """Killed as the kernel does it when memory is short; a retry, or an error that names the job, within 30 s."""
    count = Count(17, "a worker killed (30 s at most to a retry or an error)")
    for number in attempts(1, 30):
        began = time.monotonic()
        if number % 10 == 9:
            with pytest.raises(ValueError, match="a worker died 3 times"):
                list(run_jobs(die_always, [(tmp_path, n) for n in range(3)], 2))
        else:
            found = dict(run_jobs(die_once, [(tmp_path / f"died{number}", n) for n in range(4)], 2))
            assert found == {0: 0, 1: 10, 2: 20, 3: 30} and (tmp_path / f"died{number}").exists()
        assert time.monotonic() - began < 30
        count.refused += 1
    count.done()
