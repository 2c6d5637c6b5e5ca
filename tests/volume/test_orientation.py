"""All 48 ways to store a head, in 3 obliquities: the same slices, a landmark in its place, left stays left."""

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from braindino.volume.io import as_stored, read_volume, write_nifti
from braindino.volume.orientation import from_ras, to_ras
from braindino.volume.preprocess import preprocess, restore, slice_positions_mm, to_slices
from braindino.volume.recipe import Recipe
from faults import Count
from phantom import head

CODES = [np.stack(pair, axis=1) for pair in product(permutations(range(3)), product((1, -1), repeat=3))]
OBLIQUITIES = {"straight": (0, 0, 0), "tilted 20 degrees": (20, 0, 0), "turned about three axes": (12, -17, 23)}
"""Rotations about the x, y and z axis in degrees, each nearer to the world axes than to any other order of them."""
RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=36, clip_percent=(0.0, 100.0))
MARKER = (9, 30, 20)
"""Voxel of a bright dot: low i, so on the left; front of the middle; above the middle."""


def oblique(angles):
    """The test head with a dot in it and different spacings, turned in the scanner."""
    volume = head(spacing=(4.0, 3.5, 4.5))
    voxels = volume.voxels.copy()
    voxels[0][MARKER] = 900.0
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return replace(volume, voxels=voxels, affine=turn @ volume.affine)


@pytest.mark.parametrize("angles", OBLIQUITIES.values(), ids=OBLIQUITIES)
def test_all_48_axis_codes_give_the_same_slices(tmp_path, angles):
    truth = oblique(angles)
    place = truth.affine @ [*MARKER, 1]
    expected = preprocess(replace(truth, brain_mask=None), RECIPE)
    image = nib.Nifti1Image(truth.voxels[0], truth.affine)
    seen = set()
    for code in CODES:
        turned = image.as_reoriented(code)
        seen.add(nib.aff2axcodes(turned.affine))
        nib.save(turned, tmp_path / "x.nii")
        volume = read_volume(tmp_path / "x.nii")
        prepared = preprocess(volume, RECIPE)
        assert np.array_equal(volume.voxels, truth.voxels)
        assert np.allclose(volume.affine, truth.affine, atol=1e-3)  # the header stores float32
        assert np.allclose(prepared.voxels, expected.voxels, atol=1e-4)
        assert np.allclose(slice_positions_mm(prepared), slice_positions_mm(expected), atol=1e-3)
        dot = np.unravel_index(np.argmax(volume.voxels[0]), truth.voxels.shape[1:])
        assert np.linalg.norm((volume.affine @ [*dot, 1] - place)[:3]) < 0.01
        column = np.argmax(to_slices(prepared.voxels).max(axis=(0, 1, 2)))
        row = np.argmax(to_slices(prepared.voxels).max(axis=(0, 1, 3)))
        assert column < 24 and row < 24  # left, and in front
    assert len(seen) == 48
    count = Count(5, f"axis codes of a head, {next(name for name, known in OBLIQUITIES.items() if known == angles)}")
    count.harmless = 48
    count.done(least_refused=0)


def test_slices_lie_across_the_voxel_axes_nearest_to_the_world_and_nothing_is_interpolated():
    for angles in OBLIQUITIES.values():
        straight, turned = oblique((0, 0, 0)), oblique(angles)
        assert np.array_equal(
            preprocess(turned, RECIPE).voxels[:, :, :, 5], preprocess(straight, RECIPE).voxels[:, :, :, 5]
        )
        assert to_ras(turned.voxels[0], turned.affine)[2] == "RAS"


def test_maps_come_back_to_an_oblique_grid():
    volume = oblique(OBLIQUITIES["turned about three axes"])
    prepared = preprocess(volume, RECIPE, every_slice=True)
    back = restore(prepared.brain_mask[None].astype(np.float32), prepared, volume)[0] > 0.5
    assert 2 * (back & volume.brain_mask).sum() / (back.sum() + volume.brain_mask.sum()) > 0.97


def test_what_is_made_in_ras_lies_on_the_file_again(tmp_path):
    """Back through all 48 ways to store a head: the very array and affine of the file."""
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    for number, codes in enumerate(CODES):
        stored = nib.orientations.apply_orientation(labels, codes)
        affine = np.diag([4.0, 3.5, 4.5, 1.0]) @ nib.orientations.inv_ornt_aff(codes, labels.shape)
        array, _, _ = to_ras(stored, affine)
        assert np.array_equal(from_ras(array, affine), stored)
        path = tmp_path / f"{number}.nii"
        write_nifti(path, stored, affine)
        volume = read_volume(path)
        back, told = as_stored(volume.voxels[0].astype(np.uint8), volume)
        assert np.array_equal(back, stored) and np.allclose(told, affine, atol=1e-4)
    write_nifti(path, np.pad(stored, ((0, 1), (0, 0), (0, 0))), affine)
    with pytest.raises(ValueError, match="has changed: it was read as"):
        as_stored(volume.voxels[0], volume)
