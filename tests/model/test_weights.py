"""Encoder files: what goes in comes out, and nothing else is let in."""

import json

import pytest
import safetensors.torch
import torch

from braindino.model.weights import compare, digest, load_encoder, save_encoder
from golden import TINY, fill, filled_vit

RECIPE = {"spacing_mm": 1.0, "name": "grey"}
SOURCE = {"run": "demo", "step": 3}


@pytest.fixture
def saved(tmp_path):
    model = filled_vit()
    save_encoder(tmp_path / "encoder.safetensors", model, RECIPE, SOURCE)
    return tmp_path / "encoder.safetensors", model


def change_header(path, **changes):
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["braindino"])
    text = json.dumps(header | changes)
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), metadata={"braindino": text}))


def test_round_trip(saved):
    path, model = saved
    loaded, metadata = load_encoder(path)
    assert metadata["recipe"] == RECIPE and metadata["source"] == SOURCE and loaded.config == TINY
    assert metadata["digest"] == digest(model) == digest(loaded)
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    x = fill(1, (2, 3, 8, 8))
    assert torch.equal(loaded(x).patch, model(x).patch)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_writing_twice_gives_the_same_bytes(saved):
    path, model = saved
    before = path.read_bytes()
    save_encoder(path, model, RECIPE, SOURCE)
    assert path.read_bytes() == before


def test_digest_sees_every_weight_and_buffer():
    model = filled_vit()
    known = {digest(model)}
    for name, tensor in model.state_dict().items():
        tensor.view(-1)[-1] += 1e-3
        known.add(digest(model))
        assert len(known) > 1, name
    assert len(known) == 1 + len(model.state_dict())
    half = filled_vit().to(torch.bfloat16)
    assert digest(half) == digest(half) != digest(half.float())


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no encoder file"):
        load_encoder(tmp_path / "none.safetensors")


def test_foreign_files(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not one made by this package"):
        load_encoder(path)
    path.write_bytes(b"PK\x03\x04 a zip archive, perhaps")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_encoder(path)


def test_cut_off_file(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off"):
        load_encoder(path)


def test_newer_format(saved):
    path, _ = saved
    change_header(path, format="braindino-encoder/2")
    with pytest.raises(ValueError, match=r"reads up to 1; update braindino"):
        load_encoder(path)


def test_one_flipped_bit_in_the_tensors(saved):
    path, _ = saved
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="tensors differ from their digest"):
        load_encoder(path)


def test_changed_recipe(saved):
    path, _ = saved
    change_header(path, recipe={"spacing_mm": 2.0})
    with pytest.raises(ValueError, match="header differs from its digest"):
        load_encoder(path)


def test_header_that_is_no_json(saved):
    path, _ = saved
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}, metadata={"braindino": "{"}))
    with pytest.raises(ValueError, match="header is not JSON"):
        load_encoder(path)


def test_weights_that_do_not_fit_the_config(tmp_path):
    model, other = filled_vit(), filled_vit()
    del other.mask_token
    other.norm.weight = torch.nn.Parameter(torch.ones(31))
    other.extra = torch.nn.Parameter(torch.ones(2))
    save_encoder(tmp_path / "odd.safetensors", other, RECIPE, SOURCE)
    with pytest.raises(ValueError, match="does not fit its config") as error:
        load_encoder(tmp_path / "odd.safetensors")
    assert str(error.value).splitlines()[1:] == [
        "  missing: mask_token (1, 32)",
        "  unexpected: extra (2,)",
        "  shape of norm.weight: (31,), expected (32,)",
    ]
    assert compare(model.state_dict(), model.state_dict()) == ""
