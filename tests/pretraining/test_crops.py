import numpy as np
import pytest

from braindino.pretraining.config import CropConfig
from braindino.pretraining.crops import _coarser, _resize, multi_crop
from braindino.pretraining.intensities import TOP

BACKGROUND = -3.0
PLAIN = CropConfig(
    global_px=32, local_px=16, local_count=3, gamma=0.0, bias_field=0.0, noise=0.0, blur=(0.0, 0.0, 0.0), invert=0.0
)
STEPS = {
    "gamma": 0.4,
    "bias_field": 0.4,
    "noise": 0.2,
    "blur": (1.0, 1.0, 1.0),
    "invert": 1.0,
    "ghosting": 1.0,
    "low_resolution": 1.0,
}
"""Every step of intensity, so that it certainly shows in global crop 2."""


def _with(config=PLAIN, **changes):
    return CropConfig(**{**vars(config), **changes})


def brain_slice():
    """A rectangle of brain, 22 % of the slice."""
    rng = np.random.default_rng(0)
    image = np.full((1, 64, 64), BACKGROUND, np.float32)
    image[0, 16:48, 12:40] = rng.normal(size=(32, 28)).clip(-2.9).astype(np.float32)
    return image


@pytest.fixture
def slice_image():
    return brain_slice()


def test_shapes_and_determinism(slice_image):
    first, again, other = (
        multi_crop(slice_image, BACKGROUND, CropConfig(global_px=32, local_px=16), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first.global_crops.shape == (2, 1, 32, 32) and first.local_crops.shape == (8, 1, 16, 16)
    assert np.array_equal(first.global_crops, again.global_crops) and not np.array_equal(
        first.global_crops, other.global_crops
    )


def test_the_slice_itself_is_left_as_it_was(slice_image):
    before = slice_image.copy()
    multi_crop(slice_image, BACKGROUND, _with(**STEPS), np.random.default_rng(0), gram=True)
    assert np.array_equal(slice_image, before)


@pytest.mark.parametrize("seed", range(4))
def test_without_distortion_a_gram_crop_is_the_global_crop(slice_image, seed):
    assert not len(multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed)).gram_crops)
    crops = multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed), gram=True)
    assert np.allclose(np.maximum(crops.gram_crops, BACKGROUND), crops.global_crops, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_gram_crop_has_the_geometry_of_its_distorted_global_crop(slice_image, seed):
    slice_image[slice_image > BACKGROUND] = 0.0  # so that only the edge of the brain is left to compare
    config = _with(gamma=0.4, bias_field=0.3, noise=0.05, ghosting=1.0, invert=1.0)
    crops = multi_crop(slice_image, BACKGROUND, config, np.random.default_rng(seed), gram=True)
    for gram, crop in zip(crops.gram_crops, crops.global_crops, strict=True):
        assert ((gram > -2) == (crop > -2)).mean() > 0.9


@pytest.mark.parametrize("step", STEPS)
def test_every_step_changes_the_crop_and_not_the_gram_crop(slice_image, step):
    config = _with(**{step: STEPS[step]})
    for seed in range(5):
        crops, plain = (
            multi_crop(slice_image, BACKGROUND, one, np.random.default_rng(seed), gram=True) for one in (config, PLAIN)
        )
        assert np.array_equal(crops.gram_crops[0], plain.gram_crops[0])
        assert np.abs(crops.gram_crops[1] - crops.global_crops[1]).max() > 1e-3


@pytest.mark.parametrize("step", ["ghosting", "low_resolution"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_step_happens_as_often_as_it_says(slice_image, step, probability):
    config, changed = _with(**{step: probability}), []
    for seed in range(150):
        crops = multi_crop(slice_image, BACKGROUND, config, np.random.default_rng(seed), gram=True)
        seen = np.maximum(crops.gram_crops, BACKGROUND)
        changed += [not np.allclose(one, other, atol=1e-3) for one, other in zip(seen, crops.global_crops, strict=True)]
    assert np.mean(changed) == pytest.approx(probability, abs=0.08 * (0 < probability < 1))  # deviation 0.026


@pytest.mark.parametrize("factors", [(0.6, 0.6), (2.0, 2.0), (0.6, 2.0)], ids=["shrunk", "enlarged", "both"])
def test_resizing_is_antialiased(factors):
    """A pattern too fine for the crop vanishes along each axis that shrinks, a coarse one is kept."""
    side = 48
    rows, columns = (round(side / factor) for factor in factors)
    places = np.arange(rows, dtype=np.float32)[:, None] + np.zeros((1, columns), np.float32)
    fine, coarse = (-1.0) ** places, np.sin(2 * np.pi * places / rows)
    crop = np.empty((1, side, side), np.float32)
    _resize(fine[None].astype(np.float32), crop, flipped=False)
    assert np.abs(crop).max() < 0.7 if factors[0] < 1 else crop.std() > 0.5
    assert crop.std() < 0.35 or factors[0] > 1
    _resize(coarse[None].astype(np.float32), crop, flipped=False)
    expected = np.sin(2 * np.pi * (np.arange(side) + 0.5) / side - np.pi / rows)
    assert np.abs(crop[0] - expected[:, None]).max() < 0.05


def test_low_resolution_takes_detail_along_one_axis_alone():
    picture = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
    axes = []
    for seed in range(30):
        part, crop = _coarser(picture, 64, np.random.default_rng(seed)), np.empty((1, 64, 64), np.float32)
        (axis,) = (axis for axis in (1, 2) if part.shape[axis] < 64)
        axes.append(axis)
        assert 64 / 4 <= part.shape[axis] <= np.ceil(64 / 1.5) and part.shape[3 - axis] == 64
        _resize(part, crop, flipped=False)
        power = np.abs(np.fft.fft2(crop[0])) ** 2
        along = {1: power[24:41, :8].mean(), 2: power[:8, 24:41].mean()}
        assert along[axis] < 0.15 * along[3 - axis]
    assert 5 < axes.count(1) < 25


def test_crops_lie_on_foreground(slice_image):
    """The brain covers 22 % of the slice; uniform windows of local size would often hold nothing."""
    shares = [
        (crop > BACKGROUND + 0.5).mean()
        for seed in range(40)
        for crop in multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed)).local_crops
    ]
    assert np.mean(np.array(shares) > 0.2) > 0.95


def test_areas_and_aspects_fill_their_ranges():
    """Read off a slice that says where each pixel came from; all of it is brain."""
    rows, columns = np.mgrid[:200, :200].astype(np.float32) / 100 - 1
    config, found = _with(local_px=32, local_count=4, flip=0.0), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        crops = multi_crop(np.stack([rows, rows, columns]), BACKGROUND, config, rng).local_crops
        found += [(crop[1, -1, 0] - crop[1, 0, 0], crop[2, 0, -1] - crop[2, 0, 0]) for crop in crops]
    height, width = np.array(found).T * 50 * 32 / 31  # in per cent of the side
    area, aspect = height * width / 1e4, width / height
    assert 0.045 < area.min() < 0.07 and 0.3 < area.max() < 0.33
    assert area.mean() == pytest.approx(0.185, abs=0.02)
    assert 0.72 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.39


def test_a_flip_mirrors_columns(slice_image):
    always, never = (
        multi_crop(slice_image, BACKGROUND, _with(flip=probability), np.random.default_rng(5))
        for probability in (1.0, 0.0)
    )
    assert np.allclose(always.global_crops[0], never.global_crops[0][:, :, ::-1])


def test_flips_happen_as_often_as_they_say(slice_image):
    flipped = 0
    for seed in range(300):
        crops, never = (
            multi_crop(slice_image, BACKGROUND, _with(flip=flip, local_count=0), np.random.default_rng(seed))
            for flip in (0.3, 0.0)
        )
        flipped += sum(not np.array_equal(*pair) for pair in zip(crops.global_crops, never.global_crops, strict=True))
    assert flipped / 600 == pytest.approx(0.3, abs=0.06)  # deviation 0.019


@pytest.fixture
def neighbours(slice_image):
    """Three channels of other values on the same foreground."""
    brain = slice_image > BACKGROUND
    return np.concatenate([np.where(brain, factor * slice_image, BACKGROUND) for factor in (0.5, 1, -0.9)])


@pytest.mark.parametrize("seed", range(12))
def test_geometry_and_distortion_are_the_same_for_all_channels(neighbours, seed):
    config = CropConfig(
        global_px=32,
        local_px=16,
        gram_px=48,
        noise=0.0,
        blur=(0.5, 0.5, 0.5),
        invert=0.5,
        ghosting=0.5,
        low_resolution=0.5,
    )
    together = multi_crop(neighbours, BACKGROUND, config, np.random.default_rng(seed), gram=True)
    for number in range(3):
        alone = multi_crop(neighbours[number : number + 1], BACKGROUND, config, np.random.default_rng(seed), gram=True)
        for name in ("global_crops", "local_crops", "gram_crops"):
            assert np.array_equal(getattr(together, name)[:, number], getattr(alone, name)[:, 0]), name


def test_the_middle_channel_says_where_brain_is(slice_image):
    empty, full = np.full_like(slice_image, BACKGROUND), np.zeros_like(slice_image)
    for seed in range(10):
        alone = multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed))
        stack = np.concatenate([empty, slice_image, full])
        between = multi_crop(stack, BACKGROUND, PLAIN, np.random.default_rng(seed))
        assert np.array_equal(between.local_crops[:, 1:2], alone.local_crops)
        for number, value in ((0, BACKGROUND), (2, 0.0)):
            assert np.allclose(between.local_crops[:, number], value, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 65504.0, 1e-42])
def test_no_value_of_a_slice_breaks_a_crop(slice_image, value):
    slice_image[0, 20:30:3, 20:30:3] = value
    for seed in range(6):
        config = _with(**{**STEPS, "noise": 0.0, "invert": 0.5})
        crops = multi_crop(slice_image, BACKGROUND, config, np.random.default_rng(seed))
        for found in (crops.global_crops, crops.local_crops):
            assert np.isfinite(found).all()
            assert found.min() >= BACKGROUND - 1e-5 and found.max() <= BACKGROUND + 1.5 * (TOP - BACKGROUND) + 1e-5


@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_slice_of_few_pixels_is_cropped_too(side):
    image = np.zeros((1, side, side), np.float32)
    crops = multi_crop(image, BACKGROUND, _with(**STEPS), np.random.default_rng(0), gram=True)
    assert np.isfinite(crops.global_crops).all() and np.allclose(crops.gram_crops, 0.0, atol=1e-6)
