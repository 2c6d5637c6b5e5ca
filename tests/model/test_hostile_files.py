"""Files that would run code, or are broken: one clear error, and nothing is ever run."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

import foreign_layouts as layouts
from braindino.model.foreign import read_foreign
from braindino.model.tensor_files import read_tensors


class Call:
    """Pickles as a call of `function` with `arguments`, made when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class WithState:
    """Pickles as an object whose state is set, by a class of this module, when it is opened."""

    def __setstate__(self, state):
        open(state["mark"], "w").close()

    def __getstate__(self):
        return {"mark": os.environ["MARK"]}


def payloads(mark):
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "subprocess": Call(subprocess.check_call, ["touch", str(mark)]),
        "popen": Call(subprocess.Popen, ["touch", str(mark)]),
        "open": Call(open, str(mark), "w"),
        "unpickling in unpickling": Call(pickle.loads, pickle.dumps(Call(exec, code))),
        "torch.load": Call(torch.load, str(mark)),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "__import__": Call(__import__, "this"),
        "set state": WithState(),
        "a whole module": torch.nn.Linear(2, 2),
    }


NAMES = list(payloads("x"))
PLACES = {
    "alone": lambda bad: bad,
    "beside weights": lambda bad: layouts.official() | {"extra": bad},
    "deep": lambda bad: {"teacher": {"backbone.cls_token": torch.ones(1, 1, 2), "hyper": {"a": [({"b": bad},)]}}},
    "as a key": lambda bad: {(1, bad): torch.ones(1)},
}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    return tmp_path / "mark"


def refused(path, mark):
    with pytest.raises(ValueError, match=path.name) as error:
        read_foreign(path)
    assert not mark.exists(), "it ran"
    return str(error.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_file_is_run(tmp_path, mark, name, place):
    content = PLACES[place](payloads(mark)[name])
    forms = {"zip.pth": {}, "legacy.bin": {"_use_new_zipfile_serialization": False}, "new.ckpt": {"pickle_protocol": 5}}
    for suffix, how in forms.items():
        torch.save(content, tmp_path / suffix, **how)
        message = refused(tmp_path / suffix, mark)
        assert "is not opened, since such a file can run code" in message and "\n" not in message
    for protocol in range(6):
        (tmp_path / "plain.pt").write_bytes(pickle.dumps(content, protocol))
        refused(tmp_path / "plain.pt", mark)
    (tmp_path / "plain.pt").rename(tmp_path / "named.safetensors")
    assert "not a safetensors file" in refused(tmp_path / "named.safetensors", mark)


def test_the_payloads_are_live(mark):
    """Opened without care they do run: the tests above test something."""
    data = pickle.dumps(payloads(mark)["exec"])
    pickle.loads(data)
    assert mark.exists()


def test_programs_of_torch_are_refused(tmp_path, mark):
    """A TorchScript archive is a program too; written by hand, since torch no longer likes to make one."""
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        for name in ("constants.pkl", "data.pkl"):
            archive.writestr(f"program/{name}", pickle.dumps(payloads(mark)["exec"]))
        archive.writestr("program/version", "3\n")
        archive.writestr("program/code/__torch__.py", "import os")
    assert "is not opened" in refused(tmp_path / "program.pt", mark)


def test_a_dict_within_itself_ends(tmp_path):
    state = layouts.official()
    loop = {"teacher": {f"backbone.{k}": v for k, v in state.items()}}
    loop["again"] = loop["teacher"]["more"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    assert len(read_foreign(tmp_path / "loop.pth")[0]) == len(state)


def test_a_small_file_cannot_claim_a_huge_tensor(tmp_path, mark):
    state = layouts.official()
    for key, shape in (("cls_token", (1, 1, 10**9)), ("blocks.0.mlp.fc1.weight", (10**8, 32)), ("x", (10**6, 10**6))):
        torch.save(state | {key: torch.ones(1).expand(shape)}, tmp_path / "huge.pth")
        assert (tmp_path / "huge.pth").stat().st_size < 500_000
        refused(tmp_path / "huge.pth", mark)


def test_tensors_that_are_not_there(tmp_path, mark):
    kinds = {
        "meta": torch.ones(32, device="meta"),
        "sparse": torch.ones(32).to_sparse(),
        "complex": torch.ones(32, dtype=torch.complex64),
        "bool": torch.ones(32, dtype=torch.bool),
    }
    for name, tensor in kinds.items():
        torch.save(layouts.official() | {"norm.bias": tensor}, tmp_path / f"{name}.pth")
        assert "wrong value: norm.bias" in refused(tmp_path / f"{name}.pth", mark), name


def damaged(good, rng):
    """A copy with bytes changed, cut out, put in, or its end gone."""
    data = bytearray(good)
    kind = rng.choice(["flip", "cut", "insert", "end", "zero"])
    at = rng.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    if kind == "cut":
        del data[at : at + rng.randrange(1, 100)]
    if kind == "insert":
        data[at:at] = rng.randbytes(rng.randrange(1, 100))
    if kind == "end":
        del data[at:]
    if kind == "zero":
        data[at : at + 100] = bytes(min(100, len(data) - at))
    return kind, bytes(data)


def content_kept(good, data):
    """Whether two archives differ in their padding and directory only."""
    if good == data:
        return True
    old, new = (zipfile.ZipFile(io.BytesIO(each)) for each in (good, data))
    return all(new.read(name) == old.read(name) for name in new.namelist() if name in old.namelist())


def test_every_flipped_bit_of_a_tensor_is_seen(tmp_path, mark):
    torch.save(layouts.official(dim=16, depth=1, hidden=16), tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "good.pth") as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename]
    assert len(parts) == 23
    for part in parts:
        data, start = bytearray(good), part.header_offset
        names = sum(struct.unpack_from("<HH", good, start + 26))
        data[start + 30 + names + part.file_size // 2] ^= 4
        (tmp_path / "bad.pth").write_bytes(data)
        assert f"{part.filename} differs from its CRC-32" in refused(tmp_path / "bad.pth", mark)


def test_an_archive_that_swells_is_refused_unread(tmp_path, mark):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    assert "unpacks to more than it holds" in refused(tmp_path / "bomb.pth", mark)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_told_or_complete(tmp_path, suffix):
    """Whatever happens to the bytes, there is a ValueError or a complete, finite state dict: nothing in between."""
    state = {name: tensor for name, tensor in layouts.official(dim=16, depth=1, hidden=16).items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if suffix == ".safetensors":
        from safetensors.torch import save

        buffer = io.BytesIO(save(state))
    path, rng = tmp_path / f"file{suffix}", random.Random(0)
    told = 0
    for _ in range(150):
        kind, data = damaged(buffer.getvalue(), rng)
        path.write_bytes(data)
        try:
            got, _, _ = read_foreign(path)
        except ValueError as error:
            told += str(path) in str(error)
        else:
            assert (kind in ("flip", "zero") and suffix == ".safetensors") or content_kept(buffer.getvalue(), data), (
                kind
            )
            assert all(tensor.isfinite().all() for tensor in got.values()) and set(got) == set(state)
            told += 1
    assert told == 150


@pytest.mark.parametrize(("name", "message"), [
    ("none.pth", "no file of weights"),
    ("weights.npz", "weights are read from .safetensors or .pth"),
    ("weights", "got 'no suffix'"),
])  # fmt: skip
def test_files_of_another_kind(tmp_path, name, message):
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / name)


def test_reading_weights_needs_no_other_package():
    code = (
        "import sys; import braindino.model.foreign, braindino.model.hugging_face;"
        "assert not {'transformers', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
