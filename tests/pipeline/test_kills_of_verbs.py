"""Every verb killed by SIGKILL at random moments and run again: nothing unreadable, nothing lost, the same result.

`prepare` has a test of its own (tests/corpus/test_kill.py), with worker processes.
"""

import os
import random
import signal
import time

import pytest

from braindino.record import read_record
from faults import Count, attempts

STAGES = {
    "pretrain": ("pretrain",),
    "probe": ("encode", "fit", "predict", "score", "analyze"),
    "report": ("report",),
}


def one_kill(zygote, verb, out, log, chance, count):
    """Start the verb, kill it, and look at what it left: no artefact, or the whole and right one."""
    pid = zygote.start(verb.into(out), log)
    time.sleep(chance.uniform(0, verb.seconds))
    os.kill(pid, signal.SIGKILL)
    code = zygote.wait(pid)
    assert code in (0, -signal.SIGKILL), log.read_text()
    if (out / "record.json").is_file():
        assert read_record(out)["files"] == read_record(verb.folder)["files"]
    if code:
        count.refused += 1
    return bool(code)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_and_run_again(tmp_path, zygote, verbs, stage):
    chance, count = random.Random(stage), Count(14, f"SIGKILL during {', '.join(STAGES[stage])}, then run again")
    wanted, number = len(attempts(len(STAGES[stage]) + 1, 50)), 0
    while count.refused < wanted:
        verb = verbs[STAGES[stage][number % len(STAGES[stage])]]
        out, log = tmp_path / f"out{number}", tmp_path / "log"
        for _ in range(3):
            if count.refused < wanted and not one_kill(zygote, verb, out, log, chance, count):
                break
        code, _, said = zygote.run(verb.into(out), log)
        assert code == 0, said
        same = read_record(out)["files"] == read_record(verb.folder)["files"]
        count.silent += not same
        assert not list(out.rglob(".*.tmp-*"))
        number += 1
    for verb in verbs.values():
        read_record(verb.folder)  # what the killed ones stood on is whole
    count.done(least_refused=wanted)
