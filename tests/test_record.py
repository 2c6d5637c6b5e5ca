import ast
import errno
import json
import os
import re
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braindino import record
from braindino.record import (
    atomic,
    fingerprint,
    is_done,
    read_record,
    read_table,
    write_array,
    write_bytes,
    write_record,
    write_table,
)


class FaultError(OSError):
    pass


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_fault_at_any_step_of_a_write_leaves_the_old_content(tmp_path, monkeypatch, code):
    """Fail at the k-th of fsync and rename, for every k until none fires."""
    path = tmp_path / "x"
    for k in range(10):
        write_bytes(path, b"old")
        calls = 0

        def failing(real, k=k):
            def call(*arguments):
                nonlocal calls
                calls += 1
                if calls == k + 1:
                    raise FaultError(code, os.strerror(code))
                return real(*arguments)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(record.os, name, failing(getattr(os, name)))
            try:
                write_bytes(path, b"new")
                fired = False
            except FaultError:
                fired = True
        assert path.read_bytes() in ((b"old", b"new") if fired else (b"new",))
        assert [p.name for p in tmp_path.iterdir()] == ["x"]
        if not fired:
            assert k == 3  # file, rename, folder
            return
    pytest.fail("the fault kept firing")


@pytest.mark.parametrize("length", [400, 500, 5000])
def test_an_array_that_does_not_fit_is_never_cut_silently(tmp_path, length):
    """numpy writes into a real file past Python and does not see that its last block found no room."""
    path, (soft, hard) = tmp_path / "x.npy", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_array(path, np.zeros(3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * length, hard))
    try:
        with pytest.raises(OSError, match=r"x\.npy"):
            write_array(path, np.zeros(length))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(np.load(path, allow_pickle=False), np.zeros(3))


def test_an_exception_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "x") as handle:
        handle.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def artefact(tmp_path):
    folder = tmp_path / "artefact"
    write_bytes(folder / "a.bin", b"abc")
    write_bytes(folder / "sub" / "b.bin", b"b")
    write_record(folder, "encode", {"n": 1}, parents={"corpus": "f" * 64})
    return folder


def test_a_record_names_every_file_and_its_hash(artefact):
    files = read_record(artefact, "encode")["files"]
    assert set(files) == {"a.bin", "sub/b.bin"}
    assert files["a.bin"] == {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "no record", "verb"])
def test_a_changed_artefact_is_refused(artefact, damage):
    verb = "encode"
    if damage == "flip":
        (artefact / "a.bin").write_bytes(b"abd")
    elif damage == "truncate":
        (artefact / "a.bin").write_bytes(b"ab")
    elif damage == "remove":
        (artefact / "a.bin").unlink()
    elif damage == "record":
        (artefact / "record.json").write_text("{")
    elif damage == "no record":
        (artefact / "record.json").unlink()
    else:
        verb = "fit"
    with pytest.raises(ValueError, match=r"differs|damaged|record|made by"):
        read_record(artefact, verb)
    assert not is_done(artefact, verb, {"n": 1}, {"corpus": "f" * 64})


def test_done_means_same_verb_config_and_parents(artefact):
    assert is_done(artefact, "encode", {"n": 1}, {"corpus": "f" * 64})
    assert is_done(artefact, "encode", None, {"corpus": "f" * 64})
    assert not is_done(artefact, "encode", {"n": 2}, {"corpus": "f" * 64})
    assert not is_done(artefact, "encode", {"n": 1}, {"corpus": "e" * 64})


def test_the_fingerprint_ignores_facts_and_versions_only(artefact):
    before = read_record(artefact)
    assert fingerprint({**before, "facts": {"seconds": 3}, "versions": {}}) == fingerprint(before)
    assert fingerprint({**before, "config": {"n": 2}}) != fingerprint(before)


def test_tables_round_trip_and_defuse_formulas(tmp_path):
    table = pd.DataFrame({"name": ["=1+1", "-3.5", "@x", "plain", "07"], "value": [1.5, np.nan, -2.0, 1e-9, 3.0]})
    write_table(tmp_path / "t.tsv", table)
    read = read_table(tmp_path / "t.tsv", text=("name",))
    assert list(read["name"]) == list(table["name"])
    assert np.allclose(read["value"], table["value"], equal_nan=True)
    written = (tmp_path / "t.tsv").read_text()
    assert "n/a" in written and "'=1+1\t" in written and "\n-3.5\t" in written and "'@x\t" in written


def test_a_missing_or_binary_table_is_an_error(tmp_path):
    (tmp_path / "x.tsv").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty.tsv").write_bytes(b"")
    for name in ("none.tsv", "x.tsv", "empty.tsv"):
        with pytest.raises(ValueError, match="table"):
            read_table(tmp_path / name)


def _writes_in_place(call):
    """True for a call that writes a file by itself: open for writing, write_text, a save to anything but a buffer."""
    name = ast.unparse(call.func)
    if name == "open":
        return any(
            isinstance(a, ast.Constant) and isinstance(a.value, str) and set(a.value) & set("wax+")
            for a in call.args[1:]
        )
    if name.endswith((".write_text", ".write_bytes")):
        return not name.startswith("record.")
    target = ast.unparse(call.args[0]) if call.args else ""
    saves = (".savefig", ".to_csv", "np.save", "torch.save", "nib.save")
    return name.endswith(saves) and not name.startswith("safetensors.") and target != "buffer"


def test_only_the_record_module_writes_files_and_nothing_is_pickled():
    for path in Path(record.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        if path.name != "record.py":
            assert not [ast.unparse(call) for call in calls if _writes_in_place(call)], path
        imports = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [line for line in imports if re.search(r"\b(pickle|joblib|dill|shelve)\b", line)], path
        for call in calls:
            if ast.unparse(call.func) == "np.load":
                assert "allow_pickle=False" in ast.unparse(call), path


def test_record_is_plain_json(artefact):
    assert json.loads((artefact / "record.json").read_text())["verb"] == "encode"
