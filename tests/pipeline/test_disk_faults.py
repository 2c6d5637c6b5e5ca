"""Writes that fail: at every single write, sync and rename of a whole verb, and on a disk that is full."""

import contextlib
import errno
import io
import os
import random
import re
import shutil
import subprocess

import pandas as pd
import pytest

from braindino import record
from braindino.pipeline.predict import read_predictions
from braindino.pipeline.prepare import prepare
from braindino.pipeline.score import score, write_scores
from braindino.record import fingerprint, read_record
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from faults import STRESS, Count, attempts
from phantom import head

FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "a short write, then ENOSPC": errno.ENOSPC}


class Steps:
    """Counts writes, syncs and renames of the one write primitive; the `k`-th fails with `code`."""

    def __init__(self, k, code, short):
        self.k, self.code, self.short, self.calls = k, code, short, 0

    def fails(self):
        self.calls += 1
        return self.calls == self.k

    def guarded(self, real):
        def call(*arguments):
            if self.fails():
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments)

        return call

    def open(self, path, mode, encoding=None, newline=None):
        if "r" in mode:
            return open(path, mode)
        steps = self

        class File(io.FileIO):
            def write(self, data):
                if steps.fails():
                    if steps.short:
                        super().write(bytes(data)[: len(data) // 2])
                    raise OSError(steps.code, os.strerror(steps.code))
                return super().write(data)

        raw = io.BufferedWriter(File(path, "w"))
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding, newline=newline)


def every_step(count, verb, out, truth, name, monkeypatch, prior=None):
    """Fail at the k-th step for every k until none fires; then the same verb without a fault gives the truth."""
    for k in range(1, 1000):
        shutil.rmtree(out, ignore_errors=True)
        if prior:
            shutil.copytree(prior, out)
        steps = Steps(k, FAULTS[name], "short" in name)
        with monkeypatch.context() as patch:
            patch.setattr(record, "open", steps.open, raising=False)
            patch.setattr(record.os, "fsync", steps.guarded(os.fsync))
            patch.setattr(record.os, "replace", steps.guarded(os.replace))
            try:
                verb(out)
                fired = False
            except OSError as error:
                assert error.errno == FAULTS[name] and str(out) in str(error.filename or out)
                fired = True
        if not fired:
            assert k > 10 and fingerprint(read_record(out)) == truth
            return
        with contextlib.suppress(ValueError):  # unfinished, and said so; else the old state or the new one, whole
            found = fingerprint(read_record(out))
            count.silent += found not in (truth, prior and fingerprint(read_record(prior)))
        assert not list(out.rglob(".*.tmp-*"))
        verb(out)
        good = fingerprint(read_record(out)) == truth
        count.refused += good
        count.lost += not good
    pytest.fail("the fault kept firing")


@pytest.mark.parametrize("name", list(FAULTS) if STRESS else list(FAULTS)[-1:])
def test_prepare_at_every_step(tmp_path, monkeypatch, name):
    for number in range(3):
        volume = head((30, 36, 27), (5.0, 5.0, 5.0), seed=number)
        write_nifti(tmp_path / "scans" / f"s{number}_T1w.nii", volume.voxels[0], volume.affine)
    recipe = Recipe(spacing_mm=6.0, size_px=32, slices=4)

    def verb(out):
        prepare([str(tmp_path / "scans")], out, recipe, workers=1)

    verb(tmp_path / "truth")
    truth, count = (
        fingerprint(read_record(tmp_path / "truth")),
        Count(15, f"{name} at the k-th step of prepare, every k"),
    )
    every_step(count, verb, tmp_path / "out", truth, name, monkeypatch)
    count.done()


@pytest.mark.parametrize("name", FAULTS)
def test_score_at_every_step_over_older_scores(tmp_path, verbs, monkeypatch, name):
    table = read_predictions(verbs["predict"].folder).table

    def verb(out, rows=table):
        write_scores(score(rows, draws=10), out)

    verb(tmp_path / "older", pd.concat([table, table.assign(seed=1)], ignore_index=True))
    verb(tmp_path / "truth")
    truth, count = fingerprint(read_record(tmp_path / "truth")), Count(15, f"{name} at the k-th step of score, every k")
    every_step(count, verb, tmp_path / "out", truth, name, monkeypatch, prior=tmp_path / "older")
    count.done()


@contextlib.contextmanager
def small_disk(place):
    """A tmpfs of a few pages on `place`, and what makes it larger; without the right to mount: None."""
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", place], check=False).returncode
    ):
        yield None
        return
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, zygote, verbs):
    """On a real small file system where the process may mount one, else with a limit on the size of files."""
    names, chance = ["prepare", "pretrain", "encode", "score", "report", "predict"], random.Random(16)
    log = tmp_path / "log"
    with small_disk(tmp_path / "disk") as resize:
        count = Count(16, f"{'a disk that is full' if resize else 'a limit on the size of files'}, then room again")
        for number in attempts(len(names), 50):
            verb = verbs[names[number % len(names)]]
            sizes = [path.stat().st_size for path in verb.folder.rglob("*") if path.is_file()]
            prior, out = tmp_path / "disk" / "prior", tmp_path / "disk" / "out"
            if resize:
                resize("64m")
            for folder in (prior, out):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(verbs["fit"].folder, prior)
            used = sum(-(-path.stat().st_size // 4096) + 1 for path in prior.rglob("*")) * 4096
            room = 4096 * chance.randint(1, max(1, int(0.7 * sum(sizes) / 4096)))
            if resize:
                resize(used + room)
            limit = None if resize else chance.randint(2000, max(2001, max(sizes) - 1))  # the log needs room too
            code, _, said = zygote.run(verb.into(out), log, limit)
            read_record(prior)
            if code == 0:
                good = fingerprint(read_record(out)) == verb.print
                count.harmless, count.silent = count.harmless + good, count.silent + (not good)
                continue
            last = said.strip().splitlines()[-1]
            assert code == 1 and "Traceback" not in said, said
            assert re.search(r"No space left on device|File too large", last) and str(out) in last, said
            with pytest.raises(ValueError, match=r"unfinished|does not exist"):
                read_record(out)
            assert not list(out.rglob(".*.tmp-*"))
            if resize:
                resize("64m")
            code, _, said = zygote.run(verb.into(out), log)
            assert code == 0, said
            good = fingerprint(read_record(out)) == verb.print
            count.refused, count.lost = count.refused + good, count.lost + (not good)
    count.done()
