import numpy as np
import pytest

from braindino.pretraining.config import CropConfig
from braindino.pretraining.crops import distort, multi_crop

BACKGROUND = -3.0
PLAIN = CropConfig(
    global_px=32, local_px=16, local_count=3, gamma=0.0, bias_field=0.0, noise=0.0, blur=(0.0, 0.0, 0.0), invert=0.0
)


@pytest.fixture
def slice_image():
    rng = np.random.default_rng(0)
    image = np.full((1, 64, 64), BACKGROUND, np.float32)
    image[0, 16:48, 12:40] = rng.normal(size=(32, 28)).astype(np.float32)
    return image


def test_shapes_and_determinism(slice_image):
    first, again, other = (
        multi_crop(slice_image, BACKGROUND, CropConfig(global_px=32, local_px=16), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first.global_crops.shape == (2, 1, 32, 32) and first.local_crops.shape == (8, 1, 16, 16)
    assert np.array_equal(first.global_crops, again.global_crops) and not np.array_equal(
        first.global_crops, other.global_crops
    )


def test_without_distortion_a_gram_crop_is_the_global_crop(slice_image):
    assert not len(multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(0)).gram_crops)
    crops = multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(0), gram=True)
    assert np.allclose(np.maximum(crops.gram_crops, BACKGROUND), crops.global_crops, atol=1e-5)


def test_crops_lie_on_foreground(slice_image):
    """The brain covers 22 % of the slice; uniform windows of local size would often hold nothing."""
    config = CropConfig(**{**vars(PLAIN), "least_foreground": 0.3})
    shares = [
        (crop > BACKGROUND + 0.5).mean()
        for seed in range(40)
        for crop in multi_crop(slice_image, BACKGROUND, config, np.random.default_rng(seed)).local_crops
    ]
    assert np.mean(np.array(shares) > 0.2) > 0.95


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_blur_happens_as_often_as_it_says(slice_image, probability):
    changed = [
        not np.allclose(
            distort(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed), blur=probability, invert=0.0),
            np.maximum(slice_image, BACKGROUND),
            atol=1e-4,
        )
        for seed in range(200)
    ]
    assert np.mean(changed) == pytest.approx(probability, abs=0.12)


@pytest.mark.parametrize("field", ["gamma", "bias_field", "invert"])
def test_background_stays_background(slice_image, field):
    config = CropConfig(**{**vars(PLAIN), field: 0.4})
    moved = distort(slice_image, BACKGROUND, config, np.random.default_rng(0), blur=0.0, invert=config.invert and 1.0)
    outside = slice_image == BACKGROUND
    assert np.allclose(moved[outside], BACKGROUND, atol=1e-4)
    assert not np.allclose(moved[~outside], slice_image[~outside], atol=1e-2)


def test_inversion_turns_bright_to_dark(slice_image):
    inverted = distort(slice_image, BACKGROUND, PLAIN, np.random.default_rng(0), blur=0.0, invert=1.0)
    inside = slice_image > BACKGROUND
    assert np.corrcoef(inverted[inside], slice_image[inside])[0, 1] < -0.95


def test_a_flip_mirrors_columns(slice_image):
    always, never = (
        multi_crop(slice_image, BACKGROUND, CropConfig(**{**vars(PLAIN), "flip": p}), np.random.default_rng(5))
        for p in (1.0, 0.0)
    )
    assert np.allclose(always.global_crops[0], never.global_crops[0][:, :, ::-1])


@pytest.fixture
def neighbours(slice_image):
    """Three channels of other values on the same foreground."""
    brain = slice_image > BACKGROUND
    return np.concatenate([np.where(brain, factor * slice_image, BACKGROUND) for factor in (0.5, 1, -1)])


@pytest.mark.parametrize("seed", range(12))
def test_geometry_and_distortion_are_the_same_for_all_channels(neighbours, seed):
    config = CropConfig(global_px=32, local_px=16, gram_px=48, noise=0.0, blur=(0.5, 0.5, 0.5), invert=0.5)
    together = multi_crop(neighbours, BACKGROUND, config, np.random.default_rng(seed), gram=True)
    for number in range(3):
        alone = multi_crop(neighbours[number : number + 1], BACKGROUND, config, np.random.default_rng(seed), gram=True)
        for name in ("global_crops", "local_crops", "gram_crops"):
            assert np.array_equal(getattr(together, name)[:, number], getattr(alone, name)[:, 0]), name


def test_noise_is_drawn_for_each_channel(slice_image):
    config = CropConfig(**{**vars(PLAIN), "noise": 0.5})
    noisy = distort(slice_image.repeat(3, 0), BACKGROUND, config, np.random.default_rng(0), blur=0.0, invert=0.0)
    noise = (noisy - np.maximum(slice_image, BACKGROUND)).reshape(3, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.08  # 4096 pixels: deviation 0.016
    assert noise.std(axis=1) == pytest.approx(noise.std(), rel=0.1) and noise.std() > 0.01


def test_the_middle_channel_says_where_brain_is(slice_image):
    empty, full = np.full_like(slice_image, BACKGROUND), np.zeros_like(slice_image)
    for seed in range(10):
        alone = multi_crop(slice_image, BACKGROUND, PLAIN, np.random.default_rng(seed))
        stack = np.concatenate([empty, slice_image, full])
        between = multi_crop(stack, BACKGROUND, PLAIN, np.random.default_rng(seed))
        assert np.array_equal(between.local_crops[:, 1:2], alone.local_crops)
        for number, value in ((0, BACKGROUND), (2, 0.0)):
            assert np.allclose(between.local_crops[:, number], value, atol=1e-5)
