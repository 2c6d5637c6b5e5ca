"""Two processes with the same command line and folder: one of them does it, the other one is told to wait."""

import pytest

from braindino.record import fingerprint, read_record
from faults import Count, attempts

RACES = {"prepare": 20, "pretrain": 20, "encode": 20, "fit": 20, "predict": 6, "score": 6, "analyze": 4, "report": 4}


@pytest.mark.parametrize("name", RACES)
def test_the_second_refuses(tmp_path, zygote, verbs, name):
    verb, count = verbs[name], Count(21, f"two runs of {name} in one folder at once")
    for number in attempts(1, RACES[name]):
        out, logs = tmp_path / f"out{number}", [tmp_path / "a.log", tmp_path / "b.log"]
        started = [zygote.start(verb.into(out), log) for log in logs]
        codes = [zygote.wait(pid) for pid in started]
        said = [log.read_text() for log in logs]
        assert 0 in codes, said
        for code, text in zip(codes, said, strict=True):
            assert code == 0 or (code == 1 and "another process is writing to" in text), text
        good = fingerprint(read_record(out)) == verb.print and not list(out.rglob(".*.tmp-*"))
        count.silent += not good
        count.refused += good and 1 in codes
        count.harmless += good and 1 not in codes
    count.done(least_refused=0)


def test_a_lock_dies_with_its_process(tmp_path, zygote, verbs):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text("left by a run that is no more")
    code, _, said = zygote.run(verbs["score"].into(tmp_path / "out"), tmp_path / "log")
    assert code == 0, said
