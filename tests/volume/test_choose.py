from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from braindino.volume.choose import distinct, slice_centres
from braindino.volume.preprocess import preprocess, slice_positions_mm
from braindino.volume.recipe import Recipe

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=12)
GAUSSIAN = replace(RECIPE, slice_rule="gaussian")


def test_uniform_slices_are_evenly_spaced_between_the_margins():
    centres = slice_centres(10, 110, 1.0, RECIPE, every_slice=False)
    assert np.allclose(centres, np.linspace(15, 105, 12))
    assert np.array_equal(slice_centres(10, 19, 2.0, RECIPE, every_slice=True), np.linspace(10, 19, 5))


def test_gaussian_slices_are_the_quantiles_of_the_truncated_normal():
    """Against the standard library's normal distribution, quantile by quantile."""
    centres = slice_centres(10, 110, 1.0, replace(GAUSSIAN, slices=50), every_slice=False)
    normal = NormalDist(60, 20)
    low, high = normal.cdf(15), normal.cdf(105)
    assert np.allclose(centres, [normal.inv_cdf(low + (n + 0.5) / 50 * (high - low)) for n in range(50)])
    steps = np.diff(centres)
    assert np.all(steps > 0) and steps[24] == pytest.approx(steps.min()) and steps[0] > 3 * steps[24]
    assert np.allclose(centres + centres[::-1], 120)


def test_a_wide_gaussian_is_nearly_uniform():
    wide = slice_centres(0, 100, 1.0, replace(GAUSSIAN, slice_scale=10.0, slices=20), every_slice=False)
    assert np.allclose(np.diff(wide), 90 / 20, rtol=2e-3)


def test_positions_of_unevenly_spaced_slices_are_where_they_were_cut(volume):
    prepared = preprocess(volume, GAUSSIAN)
    k = np.flatnonzero(volume.brain_mask.any(axis=(0, 1)))
    expected = volume.affine[2, 3] + 4.0 * slice_centres(int(k[0]), int(k[-1]), 4.0, GAUSSIAN, every_slice=False)
    assert np.allclose(slice_positions_mm(prepared), expected, atol=1e-4)
    even = preprocess(volume, RECIPE)
    assert not np.allclose(slice_positions_mm(even), expected, atol=1.0)
    one = preprocess(volume, replace(GAUSSIAN, slices=1))
    assert slice_positions_mm(one)[0] == pytest.approx(expected.mean(), abs=1e-3)


def test_near_duplicates_are_the_slices_that_change_too_little(volume):
    """Slices of a head whose planes come in equal pairs: one of each pair is new."""
    voxels = volume.voxels.copy()
    voxels[:, :, :, 1::2] = voxels[:, :, :, ::2]
    mask = volume.brain_mask.copy()
    mask[:, :, 1::2] = mask[:, :, ::2]
    doubled = replace(volume, voxels=voxels, brain_mask=mask)
    k = np.flatnonzero(mask.any(axis=(0, 1)))
    recipe = replace(RECIPE, slices=int(np.ptp(k)) + 1, margin=0.0)
    prepared = preprocess(doubled, recipe)
    assert distinct(prepared, recipe).all()
    kept = distinct(prepared, replace(recipe, least_change=0.05))
    assert kept.sum() == len(kept) / 2 and kept[::2].all()
    assert distinct(prepared, replace(recipe, least_change=1e6)).sum() == 1


@pytest.mark.parametrize(
    "bad", [{"slice_scale": 0.0}, {"least_change": -1.0}, {"neighbours": 9}, {"least_change": float("nan")}]
)
def test_impossible_rules_are_refused(bad):
    with pytest.raises(ValueError, match=r"recipe\.slice_scale"):
        Recipe(**bad)
