from dataclasses import replace

import numpy as np
import pytest

from braindino.volume.preprocess import from_slices, preprocess, restore, slice_positions_mm, to_slices
from braindino.volume.recipe import Limits, Recipe
from phantom import head

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=12)


def test_intensities_inside_the_mask_have_mean_0_and_deviation_1():
    volume = head(spacing=(4.0, 4.0, 4.0))
    recipe = Recipe(spacing_mm=4.0, size_px=48, slices=36, margin=0.0, clip_percent=(0.0, 100.0))
    prepared = preprocess(volume, recipe)
    inside = volume.voxels[0][volume.brain_mask]
    expected = (inside - inside.mean()) / inside.std()
    assert prepared.voxels[0].max() <= expected.max() + 1e-4
    assert np.all(prepared.voxels[0][~prepared.brain_mask] <= 1.0)
    corner = prepared.voxels[0][0, 0]
    assert np.allclose(corner, recipe.background)


def test_same_grid_is_left_as_it_is():
    """On the source's own grid the interpolation matrices are the identity."""
    volume = head(shape=(48, 48, 36))
    mask = np.ones((48, 48, 36), bool)
    recipe = Recipe(spacing_mm=4.0, size_px=48, slices=36, margin=0.0, clip_percent=(0.0, 100.0), brain_ml=(1.0, 1e5))
    recipe = replace(recipe, limits=Limits(most_edge_share=1.0))
    prepared = preprocess(replace(volume, brain_mask=mask), recipe)
    image = volume.voxels[0]
    assert np.allclose(prepared.voxels[0], (image - image.mean()) / image.std(), atol=1e-4)
    assert np.allclose(prepared.affine, volume.affine)


def test_slices_and_back(volume):
    assert np.array_equal(from_slices(to_slices(volume.voxels)), volume.voxels)


def test_rows_run_from_anterior_to_posterior(volume):
    """The test head brightens towards the front (j): so rows darken downwards."""
    middle = to_slices(volume.voxels)[18, 0]
    assert middle[10:20].mean() > middle[28:38].mean()


def test_slice_positions_are_world_millimetres(volume):
    prepared = preprocess(volume, RECIPE)
    positions = slice_positions_mm(prepared)
    k = np.flatnonzero(volume.brain_mask.any(axis=(0, 1)))
    margin = RECIPE.margin * (k[-1] - k[0])
    assert positions[0] == pytest.approx(volume.affine[2, 3] + 4.0 * (k[0] + margin), abs=1e-3)
    assert np.all(np.diff(positions) > 0)


def test_restore_brings_a_map_back_to_its_voxels(volume):
    prepared = preprocess(volume, RECIPE, every_slice=True)
    back = restore(prepared.brain_mask[None].astype(np.float32), prepared, volume)[0] > 0.5
    both = 2 * (back & volume.brain_mask).sum() / (back.sum() + volume.brain_mask.sum())
    assert both > 0.97


def test_antialiased_shrinking_keeps_the_mean(volume):
    fine = preprocess(volume, Recipe(spacing_mm=4.0, size_px=64, slices=36, brain="none"))
    coarse = preprocess(volume, Recipe(spacing_mm=8.0, size_px=32, slices=36, brain="none"))
    assert coarse.voxels.mean() == pytest.approx(fine.voxels.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"brain_mask": np.zeros((40, 48, 36), bool)}, "mask is empty"),
        ({"voxels": np.full((1, 40, 48, 36), 7.0, np.float32)}, "same value"),
        ({"affine": np.diag([1.0, 1.0, 1.0, 1.0])}, "ml"),
    ],
)
def test_impossible_input_is_refused(volume, change, message):
    with pytest.raises(ValueError, match=message):
        preprocess(replace(volume, **change), RECIPE)


@pytest.mark.parametrize("bad", [{"spacing_mm": 0.0}, {"size_px": 4}, {"clip_percent": (60.0, 40.0)}, {"margin": 0.5}])
def test_impossible_recipe_is_refused(bad):
    with pytest.raises(ValueError, match="recipe"):
        Recipe(**bad)


def test_the_hash_names_the_recipe():
    assert Recipe().hash() == Recipe().hash() != Recipe(slices=64).hash()
