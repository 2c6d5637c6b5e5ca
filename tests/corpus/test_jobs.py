"""A worker that dies costs a retry of its job, not the run."""

import pytest

from braindino.corpus.jobs import run_jobs
from dying import die_always, die_once


def test_a_local_worker_that_dies_costs_a_retry(tmp_path):
    done = dict(run_jobs(die_once, [(tmp_path / "died", n) for n in range(4)], 2))
    assert done == {0: 0, 1: 10, 2: 20, 3: 30} and (tmp_path / "died").exists()


def test_a_job_that_always_kills_its_worker_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a worker died 3 times while it did \(1,\)"):
        list(run_jobs(die_always, [(tmp_path, n) for n in range(3)], 2))
