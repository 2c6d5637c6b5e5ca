import numpy as np
import pytest
from test_crops import BACKGROUND, PLAIN, STEPS, _with, brain_slice

from braindino.pretraining.config import CropConfig
from braindino.pretraining.intensities import distort, ghosted, share_of_range

SPAN = 3.0 - BACKGROUND


@pytest.fixture
def slice_image():
    return brain_slice()


def distorted(image, config, seed=0, *, blur=0.0, invert=0.0):
    u = share_of_range(image, BACKGROUND)
    distort(u, BACKGROUND, config, np.random.default_rng(seed), blur=blur, invert=invert)
    return u


def test_switched_off_it_gives_the_slice_back(slice_image):
    assert np.abs(distorted(slice_image, PLAIN) - slice_image).max() < 1e-5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", ["gamma", "bias_field", "invert", "gamma+bias_field"])
def test_background_stays_background_to_the_bit(slice_image, step, seed):
    config = _with(**{name: STEPS[name] for name in step.split("+")})
    moved = distorted(slice_image, config, seed, invert=config.invert)
    outside = slice_image == BACKGROUND
    assert (moved[outside] == BACKGROUND).all()
    assert not np.allclose(moved[~outside], slice_image[~outside], atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_gamma_is_a_power(slice_image, seed):
    """x -> u^g with ln g within +-0.4, to the accuracy of float32: one g explains every pixel."""
    moved = distorted(slice_image, _with(gamma=0.4), seed).astype(float)
    u, v = ((x[slice_image > -2].astype(float) - BACKGROUND) / SPAN for x in (slice_image, moved))
    away = np.abs(u - 1) > 0.2
    powers = np.log(v[away]) / np.log(u[away])
    assert np.abs(np.log(powers)).max() <= 0.4001 and np.ptp(powers) < 2e-5
    assert np.abs(v - u ** np.median(powers)).max() < 2e-6


def test_a_bias_field_is_smooth_and_bounded():
    flat, fields = np.full((1, 64, 64), -1.0, np.float32), []
    for seed in range(60):
        field = (distorted(flat, _with(bias_field=0.3), seed)[0] - BACKGROUND) / 2
        fields.append(field)
        assert np.abs(np.diff(field, axis=0)).max() < 0.05 and np.abs(np.diff(field, axis=1)).max() < 0.05
    assert 0.68 < np.min(fields) < 0.85 and 1.2 < np.max(fields) < 1.45
    assert np.mean(np.log(fields)) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("step", ["blur", "invert"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9, 1.0])
def test_a_step_happens_as_often_as_it_says(slice_image, step, probability):
    changed = [
        np.abs(distorted(slice_image, PLAIN, seed, **{step: probability}) - slice_image).max() > 1e-3
        for seed in range(300)
    ]
    assert np.mean(changed) == pytest.approx(probability, abs=0.09 * (0 < probability < 1))  # deviation 0.026


def test_inversion_turns_bright_to_dark(slice_image):
    inverted = distorted(slice_image, PLAIN, invert=1.0)
    inside = slice_image > BACKGROUND + 0.2
    assert np.corrcoef(inverted[inside], slice_image[inside])[0, 1] < -0.95
    assert inverted[inside].min() > BACKGROUND


def test_a_blur_is_wider_on_a_larger_crop():
    point = np.full((1, 65, 65), BACKGROUND, np.float32)
    point[0, 32, 32] = 0.0
    heights = [distorted(point, PLAIN, seed, blur=1.0).max() - BACKGROUND for seed in range(60)]
    sigmas = np.sqrt(3 / (2 * np.pi * np.array(heights)))
    assert sigmas.min() > 0.25 and sigmas.max() < 2.0 * 65 / 224 * 1.1


def test_noise_is_white_normal_and_another_in_each_channel(slice_image):
    image = np.broadcast_to(slice_image, (3, 64, 64))
    for seed in range(5):
        noise = (distorted(image, _with(noise=0.5), seed) - image) / SPAN
        pixels = noise.reshape(3, -1)
        assert np.abs(np.corrcoef(pixels) - np.eye(3)).max() < 0.08  # 4096 pixels: deviation 0.016
        assert pixels.std(axis=1) == pytest.approx(pixels.std(), rel=0.1) and pixels.std() < 0.52
        scaled = pixels / pixels.std()
        assert (np.abs(scaled) < 1).mean() == pytest.approx(0.683, abs=0.02)
        assert (scaled**4).mean() == pytest.approx(3.0, abs=0.3)
        for axis in (1, 2):
            shifted = np.roll(noise, 1, axis)
            assert abs((noise * shifted).mean() / noise.var()) < 0.04


def test_noise_is_as_strong_as_it_says_and_seldom_the_same(slice_image):
    noises = [distorted(slice_image, _with(noise=0.5), seed) - slice_image for seed in range(200)]
    strengths = np.array([noise.std() for noise in noises]) / SPAN
    assert strengths.max() < 0.52 and strengths.mean() == pytest.approx(0.25, abs=0.04)  # uniform: deviation 0.01
    pairs = np.corrcoef([noise.ravel() for noise in noises])[np.triu_indices(200, 1)]
    assert np.abs(pairs).max() < 0.1  # 19 900 pairs of 4096 pixels: deviation 0.016


@pytest.mark.parametrize("seed", range(12))
def test_a_ghost_is_a_faint_copy_at_one_shift_along_one_axis(seed):
    u = np.full((2, 64, 64), 0.2, np.float32)
    u[:, 30, 34] = 1.0
    ghost = ghosted(u, np.random.default_rng(seed))
    change = ghost[0] - u[0]
    assert np.array_equal(ghost[0], ghost[1]) and (np.abs(change) > 1e-4).sum() == 2
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert (row == 30) != (column == 34)
    shift = (row - 30) % 64 if column == 34 else (column - 34) % 64
    assert 64 / 8 <= shift <= 64 * 7 / 8
    weight = change.max() / 0.8
    assert 0.05 <= weight <= 0.25 and change[30, 34] == pytest.approx(-change.max(), rel=1e-4)


def test_a_ghost_stays_within_the_brain(slice_image):
    u = share_of_range(slice_image, BACKGROUND)
    for seed in range(10):
        ghost = ghosted(u, np.random.default_rng(seed))
        assert (ghost[u == 0] == 0).all() and 0.01 < np.abs(ghost - u).max() <= 0.26 * u.max()


def test_defaults_leave_the_later_steps_off():
    """Records of runs that were made without them read as what was done."""
    assert CropConfig().ghosting == CropConfig().low_resolution == 0
