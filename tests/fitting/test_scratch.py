"""What heads learn on lies in a temporary file: the same numbers, a size said before, nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch

from braindino import catalog, record
from braindino.fitting.scratch import Scratch, Slices
from braindino.heads import decoder
from braindino.pipeline.encode import load_encoder
from braindino.pipeline.fit import fit, load_task

DENSE = ("decoder", "conv_decoder", "tuned_decoder")
INSIDE = ("lora", "tuned")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """TMPDIR of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(folder):
    """Files in it; torch makes folders of its own."""
    return [path for path in folder.rglob("*") if path.is_file()]


def tokens(count, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 2, (count, 5, 7)).astype(np.float16)
    return values, rng.random((count, 5, 4)) > 0.9


def test_what_was_put_in_comes_out_whatever_its_size():
    parts = [tokens(3), (np.ones((2, 4, 4), np.float16), np.zeros((2, 4, 4), np.int16)), tokens(4, 1)]
    with Slices("x") as slices:
        for values, labels in parts:
            slices.add(values[::-1], labels[::-1])
        pairs = [pair for part in parts for pair in zip(part[0][::-1], part[1][::-1], strict=True)]
        assert len(slices) == len(pairs) == 9
        for place in (8, 0, 4, 4, 2):
            for found, wanted in zip(slices[place], pairs[place], strict=True):
                assert found.dtype == wanted.dtype and found.flags.writeable and np.array_equal(found, wanted)
        assert slices.lesion.tolist() == [n for n, (_, labels) in enumerate(pairs) if labels.any()]


def test_pictures_outlive_the_file_and_are_in_no_memory_of_their_own(folder):
    parts = [tokens(3)[0], tokens(1, 1)[0], np.zeros((0, 5, 7), np.float16), tokens(4, 2)[0]]
    with Scratch("x") as scratch:
        places = [scratch.write(part[::-1]) for part in parts]
        arrays = scratch.mapped(places)
    for found, wanted in zip(arrays, parts, strict=True):
        assert found.dtype == np.float16 and np.array_equal(found, wanted[::-1])
        assert torch.from_numpy(found).shape == found.shape  # (a read-only array is warned of)
    assert all(isinstance(array, np.memmap) for array in arrays if array.size) and not left(folder)
    with Scratch("x") as nothing:
        assert nothing.mapped([]) == ()


def test_mean_and_deviation_in_groups_are_those_of_everything(monkeypatch):
    with Slices("x") as slices:
        slices.add(*tokens(40))
        x, y = (torch.from_numpy(array) for array in tokens(40))
        mean, scale = decoder._standard(slices)
        assert torch.equal(mean, x.float().mean(dim=(0, 1))) and torch.equal(scale, x.float().std(dim=(0, 1)) + 1e-6)
        head = decoder.Fitted(np.full((4, 7), 0.1, np.float32), np.zeros(4, np.float32), mean.numpy(), scale.numpy())
        whole = decoder._dice(head, slices)
        assert whole == pytest.approx(decoder._soft_dice(torch.sigmoid(head._logits(x)), y).item(), abs=1e-6)
        monkeypatch.setattr(decoder, "AT_ONCE_BYTES", 4 * 35 * 7)  # groups of 7, the last of 5
        for found, wanted in zip(decoder._standard(slices), (mean, scale), strict=True):
            assert torch.allclose(found, wanted, rtol=1e-6)
        assert decoder._dice(head, slices) == pytest.approx(whole, abs=1e-6)


def test_the_size_is_said_before_and_must_fit(folder, monkeypatch, capsys):
    with Slices("decoder", 813) as slices:
        slices.add(*tokens(3))
        slices.add(*tokens(3))
    told = "what head 'decoder' learns on, 813 cases of 3 slices like the first, are 0.22 MB; "
    assert capsys.readouterr().err.count(told) == 1
    monkeypatch.setattr(record, "free_bytes", lambda place: 10_000)
    with (
        Slices("decoder", 813) as slices,
        pytest.raises(ValueError, match=r"are 0.22 MB, but .* has 0.01 MB free; set"),
    ):
        slices.add(*tokens(3))
    assert not left(folder)


@pytest.mark.parametrize("name", DENSE)
def test_too_small_a_disk_stops_every_dense_head_at_its_first_case(folder, cohort, weights, name, monkeypatch):
    encoder, task = load_encoder("braindino", weights), load_task("tumour_segmentation", cohort, "synthetic")
    cases = len(task.cases_of("train")) + len(task.cases_of("validation"))
    monkeypatch.setattr(record, "free_bytes", lambda place: 10_000)
    with pytest.raises(ValueError, match=rf"head '{name}' learns on, {cases} cases of .* set TMPDIR to a folder"):
        fit(task, encoder, name, steps=1)
    assert not left(folder)


@pytest.mark.parametrize("name", INSIDE)
def test_heads_inside_the_encoder_learn_from_such_a_file(folder, cohort, weights, name, monkeypatch):
    encoder, task = load_encoder("braindino", weights), load_task("dementia", cohort, "synthetic")
    used, mapped = [], Scratch.mapped
    monkeypatch.setattr(
        Scratch, "mapped", lambda self, places: used.append((self, len(places))) or mapped(self, places)
    )
    fit(task, encoder, name, steps=1)
    assert [count for _, count in used] == [len(task.cases_of(p)) for p in ("train", "validation")]
    assert all(scratch._file.closed for scratch, _ in used) and not left(folder)
    monkeypatch.setattr(record, "free_bytes", lambda place: 10_000)
    with pytest.raises(
        ValueError, match=rf"head '{name}' learns on, {len(task.cases_of('train'))} cases of .* set TMPD"
    ):
        fit(task, encoder, name, steps=1)
    assert not left(folder)


@pytest.mark.parametrize("name", DENSE)
def test_nothing_is_left_after_learning_or_an_error(folder, cohort, weights, name, monkeypatch):
    encoder, task = load_encoder("braindino", weights), load_task("tumour_segmentation", cohort, "synthetic")
    opened, closed = [], []
    real_enter, real_exit = Slices.__enter__, Slices.__exit__
    monkeypatch.setattr(Slices, "__enter__", lambda self: opened.append(self) or real_enter(self))
    monkeypatch.setattr(Slices, "__exit__", lambda self, *why: closed.append(self) or real_exit(self, *why))
    train, held = task.cases_of("train")[:2], task.cases_of("validation")[:1]
    catalog.load("heads", name).fit_dense(encoder, task, train, held, seed=0, steps=1)
    real = Slices.add

    def full(self, values, labels):
        if len(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, values, labels)

    monkeypatch.setattr(Slices, "add", full)
    with pytest.raises(OSError, match="No space left"):
        catalog.load("heads", name).fit_dense(encoder, task, train, held, seed=0, steps=1)
    assert len(opened) == len(closed) == 4 and all(slices._scratch._file.closed for slices in opened)
    assert not left(folder)


def test_a_full_disk_says_where(folder):
    with Slices("x") as slices:
        slices._scratch._file.close()
        slices._scratch._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 (closed by Slices)
        with pytest.raises(OSError, match="No space left") as error:
            slices.add(*tokens(1))
    assert error.value.filename == str(folder)


def test_a_killed_process_leaves_nothing(folder):
    code = (
        "import os, signal, numpy as np\nfrom braindino.fitting.scratch import Slices\n"
        "with Slices('x') as s:\n s.add(np.ones((2, 9)), np.ones((2, 9)))\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, check=False)
    assert done.returncode == -signal.SIGKILL and not left(folder)
