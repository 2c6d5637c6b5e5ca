from dataclasses import replace

import numpy as np
import pytest

from braindino.types import Volume
from braindino.volume.preprocess import preprocess
from braindino.volume.quality import FACES, quality
from braindino.volume.recipe import Limits, Recipe

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=12)


def noisy(signal, noise, seed=0):
    """White noise of known deviation on a smooth ramp of known deviation inside a ball."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij")
    ball = sum(axis**2 for axis in grid) < 0.8
    ramp = grid[1] / grid[1][ball].std()
    image = np.where(ball, 100 + signal * ramp + noise * rng.standard_normal(ramp.shape), 0)
    return Volume(image[None].astype(np.float32), ("T1w",), np.diag([3.0, 3.0, 4.0, 1.0]), brain_mask=ball)


def test_geometry(volume):
    found = quality(volume, volume.brain_mask)
    inside = np.argwhere(volume.brain_mask)
    assert found.spacing_mm == (4.0, 4.0, 4.0)
    assert np.allclose(found.extent_mm, 4.0 * (np.ptp(inside, axis=0) + 1))
    assert found.brain_ml == pytest.approx(volume.brain_mask.sum() * 0.064)
    assert found.edge_share == (0.0,) * 6


@pytest.mark.parametrize("face", range(6), ids=FACES)
def test_a_cut_field_of_view_is_told_by_its_face(volume, face):
    axis, end = divmod(face, 2)
    keep = [slice(None)] * 3
    middle = volume.brain_mask.shape[axis] // 2
    keep[axis] = slice(0, middle) if end else slice(middle, None)
    cut = replace(
        volume, voxels=np.ascontiguousarray(volume.voxels[:, *keep]), brain_mask=volume.brain_mask[tuple(keep)]
    )
    shares = quality(cut, cut.brain_mask).edge_share
    assert shares[face] > 0.95 and sum(shares) == shares[face]
    with pytest.raises(ValueError, match=f"cuts the brain at its {FACES[face]} face"):
        preprocess(cut, RECIPE)


@pytest.mark.parametrize(("signal", "noise"), [(0.0, 5.0), (10.0, 5.0), (30.0, 2.0)])
def test_snr_is_the_deviation_over_the_noise(signal, noise):
    volume = noisy(signal, noise)
    expected = np.hypot(signal, noise) / noise
    assert quality(volume, volume.brain_mask).snr == pytest.approx(expected, rel=0.05)
    brighter = replace(volume, voxels=7 * volume.voxels - 300)
    assert quality(brighter, volume.brain_mask).snr == pytest.approx(expected, rel=0.05)


def test_cjv_of_known_distributions():
    """A normal distribution halved at its mean: s = sigma sqrt(1 - 2/pi) twice, over 2 sigma sqrt(2/pi)."""
    volume = noisy(0.0, 5.0)
    assert quality(volume, volume.brain_mask).cjv == pytest.approx(
        np.sqrt(1 - 2 / np.pi) / np.sqrt(2 / np.pi), rel=0.03
    )
    rng = np.random.default_rng(0)
    two = np.where(rng.random(volume.brain_mask.shape) < 0.4, 60, 100) + 4 * rng.standard_normal(
        volume.brain_mask.shape
    )
    tissues = replace(volume, voxels=two[None].astype(np.float32))
    assert quality(tissues, volume.brain_mask).cjv == pytest.approx(8 / 40, rel=0.05)


def test_the_worst_contrast_counts():
    good, bad = noisy(30.0, 2.0), noisy(0.0, 2.0)
    both = replace(good, voxels=np.concatenate([good.voxels, bad.voxels]), contrasts=("T1w", "FLAIR"))
    assert quality(both, good.brain_mask).snr == quality(bad, good.brain_mask).snr


def test_prepared_volumes_carry_their_numbers(volume):
    found = preprocess(volume, RECIPE).quality
    assert found == quality(volume, volume.brain_mask)
    row = found.row()
    assert len(row) == 15 and row["brain_ml"] == found.brain_ml and row["edge_superior"] == 0
    assert all(isinstance(value, float) for value in row.values())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"most_spacing_mm": 3.9}, r"voxels of 4\.0 mm \(at most 3\.9\)"),
        ({"least_extent_mm": 500.0}, "brain of only 120 mm"),
        ({"least_snr": 50.0}, "signal-to-noise"),
        ({"most_cjv": 0.1}, "CJV"),
        ({"most_spacing_mm": 1.0, "most_cjv": 0.1}, r"voxels of .*; tissue overlap"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_with_its_number(volume, limits, message):
    with pytest.raises(ValueError, match=message):
        preprocess(volume, replace(RECIPE, limits=Limits(**limits)))


def test_noise_is_no_brain():
    volume = noisy(0.0, 5.0)
    with pytest.raises(ValueError, match="signal-to-noise"):
        preprocess(volume, RECIPE)


def test_masks_of_another_grid_and_empty_ones_are_refused(volume):
    with pytest.raises(ValueError, match="resample it first"):
        quality(volume, volume.brain_mask[1:])
    with pytest.raises(ValueError, match="empty"):
        quality(volume, np.zeros_like(volume.brain_mask))
