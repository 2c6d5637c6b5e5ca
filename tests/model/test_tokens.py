"""Rotary positions: tables against known numbers, rotation against complex numbers, augmentation by its bounds."""

from dataclasses import replace

import pytest
import torch

from braindino.model.config import ViTConfig
from braindino.model.layers import initialise
from braindino.model.tokens import PatchEmbed, RopeEmbed, patch_coordinates, rotate
from golden import TINY, close, fill


def rope(dim: int = 16, **changes) -> RopeEmbed:
    module = RopeEmbed(ViTConfig(dim=dim, heads=1, rope_rescale=None, storage_tokens=0, **changes))
    initialise(module)
    return module


def table(dim, grid, **changes):
    """Sine and cosine of the patches, without the CLS token's row."""
    sine, cosine = rope(dim, **changes)(grid)
    assert torch.equal(sine[0], torch.zeros(dim)) and torch.equal(cosine[0], torch.ones(dim))
    return sine[1:], cosine[1:]


def test_periods():
    expected = [1, 1.333521, 1.778279, 2.371374, 3.162278, 4.216965, 5.623413, 7.498942]
    expected += [10, 13.335215, 17.782795, 23.713737, 31.622776, 42.169651, 56.234131, 74.989418]
    close(rope(64).periods, expected, 2e-5)
    close(rope(128).periods[[0, 1, 31]], [1, 1.154782, 86.596436], 2e-5)
    close(rope(16, rope_periods=(0.5, 8.0)).periods, [0.5, 1.259921, 3.174802, 8], 1e-6)


HALF = [-0.837919, -0.309017, -0.099183]
QUARTER = [0.866025, -0.969849, -0.406737, -0.132074]
TABLES = {
    "separate": ([0, *HALF, *QUARTER], 33.950905, 79.090965),
    "min": ([0, *HALF, 0, *HALF], 29.975092, 83.961342),
    "max": (QUARTER * 2, 33.245594, 77.078865),
}


@pytest.mark.parametrize("normalize", TABLES)
def test_small_table(normalize):
    row, sum_sine, sum_cosine = TABLES[normalize]
    sine, cosine = table(16, (2, 3), rope_normalize=normalize)
    close(sine[0], row * 2, 1e-6)
    close(sine.abs().sum(), sum_sine, 1e-4)
    close(cosine.abs().sum(), sum_cosine, 1e-4)


def test_cosines_of_the_small_table():
    row = [-1, 0.545795, 0.951057, 0.995069, -0.5, 0.243705, 0.913545, 0.991240]
    close(table(16, (2, 3))[1][0], row * 2, 1e-6)


def test_large_table():
    sine, cosine = table(64, (14, 14))
    close(sine[0, :4], [0.433884, 0.943679, 0.138874, -0.629766])
    close(cosine[195, :4], [0.900969, -0.330862, -0.990310, -0.776785])
    close(sine[17, 16:20], [0, -0.707342, -0.980882, -0.969895])
    close(sine.abs().sum(), 4631.238, 2e-3)
    close(cosine.abs().sum(), 10423.593, 2e-3)


def test_rotation_is_multiplication_by_a_unit_complex_number():
    x, angles = fill(1, (2, 5, 8)), 6 * fill(2, (5, 4))
    rotated = rotate(x, (angles.tile(2).sin(), angles.tile(2).cos()))
    product = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotated, torch.cat((product.real, product.imag), -1))


def test_gradient_of_the_rotation_is_that_of_its_formula():
    x, angles, weights = fill(1, (2, 5, 8)).requires_grad_(), 6 * fill(2, (5, 4)), fill(3, (2, 5, 8))
    sine, cosine = angles.tile(2).sin(), angles.tile(2).cos()
    formula = x * cosine + torch.cat((-x[..., 4:], x[..., :4]), -1) * sine
    (expected,) = torch.autograd.grad((formula * weights).sum(), x)
    (found,) = torch.autograd.grad((rotate(x, (sine, cosine)) * weights).sum(), x)
    torch.testing.assert_close(found, expected)


def test_attention_sees_relative_positions_only():
    """q.k depends on the difference of coordinates: the same for two pairs of patches equally far apart."""
    q, k = fill(3, (1, 16)), fill(4, (1, 16))
    sine, cosine = table(16, (4, 4))
    at_q, at_k = rotate(q.expand(16, 16), (sine, cosine)), rotate(k.expand(16, 16), (sine, cosine))
    scores = at_q @ at_k.T
    torch.testing.assert_close(scores[0, 5], scores[10, 15])
    assert abs(scores[0, 5] - scores[0, 1]) > 1e-3


def test_coordinates_are_row_major_and_symmetric():
    close(patch_coordinates((2, 3), "separate")[:, 0], [-0.5, -0.5, -0.5, 0.5, 0.5, 0.5], 1e-6)
    close(patch_coordinates((2, 3), "separate")[:, 1], [-2 / 3, 0, 2 / 3] * 2, 1e-6)


AUGMENTED = {"rope_rescale": 2.0, "rope_jitter": 1.5, "rope_shift": 0.25}


@pytest.mark.parametrize("name", AUGMENTED)
def test_augmentation_in_training_only_and_within_bounds(name):
    module = RopeEmbed(replace(TINY, **{name: AUGMENTED[name]}))
    initialise(module)
    assert module.augments and not module.eval().augments
    assert torch.equal(module((4, 4))[0], module((4, 4))[0])
    torch.manual_seed(0)
    before = patch_coordinates((4, 4), "separate")
    draws = torch.stack([module._augment(before) for _ in range(500)])
    change = draws - before if name == "rope_shift" else (draws / before).log()
    assert (change - change[:, :1]).abs().max() < 1e-5, "all patches move together"
    same_axes = torch.allclose(change[..., 0], change[..., 1], atol=1e-5)
    assert same_axes == (name == "rope_rescale")
    bound = 0.25 if name == "rope_shift" else torch.log(torch.tensor(AUGMENTED[name]))
    assert change.abs().max() <= bound + 1e-5
    close(change[:, 0, 0].std(), float(bound) / 3**0.5, 0.02)


def test_patch_embedding_is_a_linear_map_of_each_patch():
    module = PatchEmbed(replace(TINY, in_channels=1))
    initialise(module, torch.Generator().manual_seed(1))
    images = fill(5, (2, 1, 8, 12))
    got = module(images)
    patch = images[1, 0, 4:8, 8:12].reshape(-1)
    torch.testing.assert_close(got[1, 1, 2], module.proj.weight.reshape(32, -1) @ patch + module.proj.bias)
    assert module.proj.weight.abs().max() <= 0.25 and module.proj.weight.abs().max() > 0.24
