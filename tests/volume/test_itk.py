"""N4 and alignment against known truth: a bias field put on, a pose given to the template's own brain."""

from dataclasses import replace

import numpy as np
import pytest

from braindino.types import Volume
from braindino.volume import itk
from braindino.volume.preprocess import preprocess, restore, slice_positions_mm
from braindino.volume.recipe import Recipe

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=12)


@pytest.fixture(scope="module")
def template():
    brain, affine = itk._template()
    return Volume(100 * brain[None, ::2, ::2, ::2], ("T1w",), affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def posed(template):
    """The template's brain, turned, moved, 8 % larger, by its affine alone; and the map that did it."""
    from scipy.spatial.transform import Rotation

    pose = np.eye(4)
    pose[:3, :3] = 1.08 * Rotation.from_euler("xyz", (12, -6, 9), degrees=True).as_matrix()
    pose[:3, 3] = (14, -22, 31)
    mask = template.voxels[0] > 0
    return replace(template, affine=pose @ template.affine, brain_mask=mask, label_map=mask.astype(np.int16)), pose


def test_n4_takes_away_most_of_a_bias_field(volume):
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.voxels.shape[1:]], indexing="ij")
    field = np.exp(0.4 * grid[0] - 0.3 * grid[2] * grid[1])
    flat = replace(volume, voxels=np.where(volume.brain_mask, 100.0, 0.0)[None].astype(np.float32))
    rng = np.random.default_rng(0)
    biased = replace(
        flat, voxels=(flat.voxels * field * (1 + 0.02 * rng.standard_normal(field.shape))).astype(np.float32)
    )
    fixed = itk.correct_bias(biased, volume.brain_mask)

    def spread(v):
        return v.voxels[0][volume.brain_mask].std() / v.voxels[0][volume.brain_mask].mean()

    assert spread(biased) > 0.15 and spread(fixed) < 0.04
    assert any("N4" in line for line in fixed.history)
    assert np.array_equal(fixed.voxels, itk.correct_bias(biased, volume.brain_mask).voxels)


def test_n4_refuses_normalised_intensities(volume):
    with pytest.raises(ValueError, match="negative"):
        preprocess(replace(volume, voxels=volume.voxels - 100), replace(RECIPE, bias="n4"))


def test_alignment_finds_a_known_pose(template, posed):
    volume, pose = posed
    aligned = itk.align(volume, volume.brain_mask)
    points = (template.affine @ np.c_[np.argwhere(volume.brain_mask), np.ones(volume.brain_mask.sum())].T)[:3]
    found = (aligned.to_scan @ np.r_[points, np.ones((1, points.shape[1]))])[:3]
    truth = (pose @ np.r_[points, np.ones((1, points.shape[1]))])[:3]
    error = np.linalg.norm(found - truth, axis=0)
    assert error.mean() < 1.0 and error.max() < 3.0  # mm, on voxels of 4 mm
    assert aligned.spacing_mm == (4.0, 4.0, 4.0)
    assert np.array_equal(aligned.label_map > 0, aligned.brain_mask)
    assert any("aligned to MNI152" in line for line in aligned.history)


def test_alignment_does_not_hang_on_the_contrast(posed):
    """Bright where it was dark, as T2w is to T1w: the same map within 2 mm."""
    volume, _ = posed
    dark = replace(volume, voxels=np.where(volume.brain_mask, 110 - volume.voxels, 0).astype(np.float32))
    one, other = (itk.align(v, volume.brain_mask) for v in (volume, dark))
    inside = np.c_[np.argwhere(one.brain_mask), np.ones(one.brain_mask.sum())] @ one.affine.T
    assert np.linalg.norm((inside @ (one.to_scan - other.to_scan).T)[:, :3], axis=1).max() < 2.0


def test_maps_come_back_from_the_template_to_the_scan(posed):
    volume, _ = posed
    prepared = preprocess(volume, replace(RECIPE, template="mni152", spacing_mm=3.0, size_px=80), every_slice=True)
    back = restore(prepared.brain_mask[None].astype(np.float32), prepared, volume)[0] > 0.5
    assert 2 * (back & volume.brain_mask).sum() / (back.sum() + volume.brain_mask.sum()) > 0.95
    assert -80 < slice_positions_mm(prepared)[0] < -50 and 60 < slice_positions_mm(prepared)[-1] < 85  # MNI z


def test_what_is_no_brain_is_not_aligned(volume):
    ball = replace(volume, affine=volume.affine @ np.diag([0.5, 1.0, 2.5, 1.0]))
    with pytest.raises(ValueError, match=r"alignment to MNI152 failed"):
        itk.align(ball, ball.brain_mask)


def test_a_sheared_affine_is_refused(volume):
    sheared = volume.affine.copy()
    sheared[0, 1] = 1.0
    with pytest.raises(ValueError, match="sheared"):
        itk.align(replace(volume, affine=sheared), volume.brain_mask)


@pytest.mark.parametrize("option", [{"bias": "n4"}, {"template": "mni152"}])
def test_a_missing_package_names_the_extra(volume, option, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(ValueError, match=r"braindino\[registration\]"):
        preprocess(volume, replace(RECIPE, **option))
