"""Linear layers by oneDNN against torch in float64: values and gradients, and where torch's own are taken."""

import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from braindino.model import linear as room
from braindino.model.linear import Linear, linear
from golden import fill

pytestmark = pytest.mark.skipif(
    not room.ONEDNN, reason="torch is built without oneDNN here; torch's own layers are used"
)


def parameters(biased):
    return fill(1, (16, 24)), fill(2, (16,)) if biased else None


def strided(shape):
    """Inputs as the model has them: contiguous, the first tokens of more, every other one, transposed, expanded."""
    wide = 4 * fill(3, (2 * shape[0], *shape[1:-1], 2 * shape[-1]))
    yield wide[: shape[0], ..., : shape[-1]].contiguous()
    yield wide[: shape[0], ..., : shape[-1]]
    yield wide[::2, ..., ::2]
    yield 4 * fill(3, (*shape[:-2], shape[-1], shape[-2])).transpose(-1, -2)
    yield (4 * fill(3, shape[-1:])).expand(shape)


@pytest.fixture
def products(monkeypatch):
    """How many products oneDNN is asked for."""
    asked = []
    ask = room._product
    monkeypatch.setattr(room, "_product", lambda *terms: asked.append(terms) or ask(*terms))
    return asked


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 1, 24), (0, 24)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_float64(shape, biased, products):
    for x in strided(shape):
        terms = [None if term is None else term.clone() for term in (*parameters(biased),)]
        found = _value_and_gradients(x, *terms)
        exact = _value_and_gradients(x.double(), *(None if term is None else term.double() for term in terms))
        for one, other in zip(found, exact, strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=1e-5)
        assert bool(products) == (shape[0] > 0), "float64 and nothing at all are torch's"
    with torch.no_grad():
        torch.testing.assert_close(linear(x, *terms), found[0])


def _value_and_gradients(x, weight, bias):
    terms = [term.detach().requires_grad_() for term in (x, weight, bias) if term is not None]
    value = linear(*terms)
    slope = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad((value * slope).sum(), terms)]


def test_gradients_are_worked_out_for_those_only_who_want_them(products):
    layer, x = Linear(24, 16), fill(3, (5, 24))
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert len(products) == 1 and layer.weight.grad is None  # the value itself; the bias needs no product
    assert layer.bias.grad.tolist() == [5.0] * 16
    layer.weight.requires_grad_(True)
    layer(x).sum().backward()
    assert len(products) == 3 and layer.weight.grad is not None


def test_other_precisions_and_autocast_are_torchs_own(products):
    (weight, bias), x = parameters(True), fill(3, (5, 24))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    wide = linear(x, weight.bfloat16(), bias.bfloat16())
    assert wide.dtype == torch.bfloat16 and ((wide.float() - F.linear(x, weight, bias)).abs() < 0.03).all()
    assert not products


def test_a_model_without_onednn_is_the_same(monkeypatch):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(Linear(24, 48), torch.nn.GELU(), Linear(48, 8))
    x, found = fill(3, (2, 5, 24)), []
    for onednn in (True, False):
        monkeypatch.setattr(room, "ONEDNN", onednn)
        layers.zero_grad()
        layers(x).square().sum().backward()
        found.append([part.grad.clone() for part in layers.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


COMPILED = """
import torch
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer

torch.set_num_threads(1)
config = ViTConfig(dim=32, depth=1, heads=2, patch_size=4, layer_scale=1.0, rope_rescale=None)
model, found = VisionTransformer(config, torch.Generator().manual_seed(0)), []
images, slope = torch.linspace(-2, 2, 2 * 64).reshape(2, 1, 8, 8), torch.linspace(-1, 1, 32)
for compiled in (False, True):
    if compiled:
        model.blocks[0].compile()
    model.zero_grad()
    cls = model(images).cls
    (cls * slope).sum().backward()
    found.append([cls, model.blocks[0].attn.qkv.weight.grad.clone()])
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_block_is_the_same():
    """In a process of its own, without the type checks of the tests, which torch cannot look through."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=300)
