from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino.config import from_dict, to_dict
from braindino.volume.box import BoxRecipe, patch_affine, restore_patches, to_box
from braindino.volume.recipe import Limits
from phantom import head

ANY = Limits(most_edge_share=1.0, least_snr=0.0, most_cjv=1e9)
PLAIN = BoxRecipe((40, 48, 36), "centre", "zscore", spacing_mm=None, limits=ANY)


def world(affine, index):
    return (affine @ [*index, 1.0])[:3]


def test_z_score_over_voxels_other_than_zero(volume):
    box = to_box(volume, PLAIN)
    x = volume.voxels[0] * volume.brain_mask
    seen = x[x != 0]
    assert np.allclose(box.voxels[0], np.where(x != 0, (x - seen.mean()) / seen.std(), 0), atol=1e-5)
    assert np.array_equal(box.affine, volume.affine)
    assert box.quality is not None and recipe_told(box, PLAIN)


def recipe_told(box, recipe):
    return f"box recipe {recipe.hash()}: " in box.history[-1] and "100% of the brain" in box.history[-1]


def test_min_max_over_all_voxels(volume):
    box = to_box(volume, replace(PLAIN, intensity="min_max"))
    x = volume.voxels[0] * volume.brain_mask
    assert np.allclose(box.voxels[0], (x - x.min()) / (x.max() - x.min()), atol=1e-6)


def test_percentiles_5_and_95_of_all_voxels_become_0_and_1(volume):
    box = to_box(volume, replace(PLAIN, intensity="percentile"))
    x = volume.voxels[0] * volume.brain_mask
    low, high = np.percentile(x, (5, 95))
    assert np.allclose(box.voxels[0], np.clip((x - low) / (high - low), 0, 1), atol=1e-6)
    assert box.voxels.min() == 0 and box.voxels.max() == 1


def test_rule_of_the_paper_moves_the_background_too_and_comes_before_resampling(volume):
    recipe = replace(PLAIN, intensity="paper", size=(20, 24, 18), size_rule="resize")
    x = volume.voxels[0] * volume.brain_mask
    low, high = np.percentile(x[x > 0], (1, 99))
    clipped = np.clip(x, low, high)
    scaled = (clipped - clipped[x > 0].mean()) / clipped[x > 0].std()
    box = to_box(volume, recipe)
    assert box.voxels[0, 0, 0, 0] == pytest.approx(scaled[0, 0, 0], abs=1e-5)
    expected = torch.nn.functional.interpolate(torch.from_numpy(scaled)[None, None], recipe.size, mode="trilinear")
    assert np.allclose(box.voxels[0], expected[0, 0].numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(24, 24, 24), (64, 61, 50), (40, 48, 36)])
def test_resize_is_that_of_torch(volume, size):
    box = to_box(volume, replace(PLAIN, size=size, size_rule="resize", intensity="min_max"))
    x = torch.from_numpy(volume.voxels * volume.brain_mask)[None]
    resized = torch.nn.functional.interpolate(x, size, mode="trilinear", align_corners=False)[0].numpy()
    assert np.allclose(box.voxels, (resized - resized.min()) / (resized.max() - resized.min()), atol=1e-5)
    for corner in ((0, 0, 0), (1, 1, 1)):  # the faces of the box lie where those of the scan do
        new = [end * n - 0.5 for end, n in zip(corner, size, strict=True)]
        old = [end * n - 0.5 for end, n in zip(corner, volume.voxels.shape[1:], strict=True)]
        assert np.allclose(world(box.affine, new), world(volume.affine, old))


def test_array_order_and_where_a_voxel_lies(volume):
    marked = volume.voxels.copy()
    marked[0, 10, 20, 30] = 500.0
    mask = np.ones_like(volume.brain_mask)
    recipe = replace(PLAIN, intensity="min_max", brain_ml=(1, 1e6))
    for codes, place in {"RAS": (10, 20, 30), "LPS": (29, 27, 30), "SRA": (30, 10, 20), "PIL": (27, 5, 29)}.items():
        size = tuple({"R": 40, "L": 40, "A": 48, "P": 48, "S": 36, "I": 36}[code] for code in codes)
        box = to_box(replace(volume, voxels=marked, brain_mask=mask), replace(recipe, orientation=codes, size=size))
        assert np.unravel_index(box.voxels[0].argmax(), size) == place
        assert np.allclose(world(box.affine, place), world(volume.affine, (10, 20, 30)))
        assert box.brain_mask.shape == size


def test_centre_crop_starts_where_monai_does_and_small_sides_are_padded_with_zeros(volume):
    box = to_box(volume, replace(PLAIN, size=(31, 60, 36), intensity="zscore"))
    full = to_box(volume, PLAIN)
    start = 40 // 2 - 31 // 2
    cut = np.where(volume.brain_mask, volume.voxels[0], 0)[start : start + 31]
    seen = cut[cut != 0]
    inside = np.where(cut != 0, (cut - seen.mean()) / seen.std(), 0)
    assert np.allclose(box.voxels[0][:, 6:54], inside, atol=1e-5)
    assert not box.voxels[0][:, :6].any() and not box.voxels[0][:, 54:].any()
    assert np.allclose(world(box.affine, (0, 6, 0)), world(full.affine, (start, 0, 0)))


def test_foreground_is_padded_to_a_multiple(volume):
    recipe = BoxRecipe((16, 16, 16), "multiple", "percentile", spacing_mm=None, extent="foreground", limits=ANY)
    box = to_box(volume, recipe)
    x = volume.voxels[0] * volume.brain_mask
    places = [np.flatnonzero(np.any(x > 0, axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    part = x[np.ix_(*[np.arange(p[0], p[-1] + 1) for p in places])]
    sides = tuple(-(-n // 16) * 16 for n in part.shape)
    assert box.voxels.shape[1:] == sides
    low, high = np.percentile(part, (5, 95))
    inner = tuple(slice((new - old) // 2, (new - old) // 2 + old) for new, old in zip(sides, part.shape, strict=True))
    assert np.allclose(box.voxels[0][inner], np.clip((part - low) / (high - low), 0, 1), atol=1e-6)
    assert box.voxels.sum() == pytest.approx(box.voxels[0][inner].sum())


def test_extent_in_mm_lies_about_the_brain_wherever_that_is_in_the_scan():
    volume = head()
    moved = replace(
        volume,
        voxels=np.pad(volume.voxels, ((0, 0), (0, 0), (0, 0), (20, 0))),
        brain_mask=np.pad(volume.brain_mask, ((0, 0), (0, 0), (20, 0))),
    )
    recipe = replace(PLAIN, size=(16, 16, 16), size_rule="resize", extent=(160.0, 200.0, 160.0))
    assert np.array_equal(to_box(moved, recipe).voxels, to_box(volume, recipe).voxels)
    edges = to_box(volume, recipe).spacing_mm
    assert np.allclose(edges, (10.0, 12.5, 10.0))


def test_spacing_is_that_of_the_recipe_and_a_scan_that_has_it_is_not_touched(volume):
    box = to_box(volume, replace(PLAIN, spacing_mm=2.0, size=(80, 96, 72)))
    assert np.allclose(box.spacing_mm, 2.0)
    middle = [(n - 1) / 2 for n in (80, 96, 72)]
    assert np.allclose(world(box.affine, middle), 0, atol=1e-9)
    same = to_box(volume, replace(PLAIN, spacing_mm=4.0))
    assert np.array_equal(same.voxels, to_box(volume, PLAIN).voxels)


def test_labels_follow_by_the_nearest_voxel(volume):
    labels = np.zeros(volume.brain_mask.shape, np.int16)
    labels[16:24, 20:28, 14:22] = 3
    box = to_box(replace(volume, label_map=labels), replace(PLAIN, size=(20, 24, 18), size_rule="resize"))
    assert set(np.unique(box.label_map)) == {0, 3}
    assert (box.label_map > 0).sum() == 4**3


def test_centre_of_a_patch():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    patches = patch_affine(affine, 16)
    assert np.allclose(world(patches, (0, 0, 0)), 15.0)
    assert np.allclose(world(patch_affine(affine, 32, first=0), (1, 0, 0)), (64.0, 0, 0))
    assert np.allclose(world(patches, (1, 0, 0)), (15.0 + 32.0, 15.0, 15.0))


def test_a_map_of_patches_comes_back_to_the_scan_from_any_order_of_axes(volume):
    recipe = replace(PLAIN, orientation="SLP", size=(32, 32, 32), size_rule="resize")
    box = to_box(volume, recipe)
    patches = patch_affine(box.affine, 8)
    indices = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1)
    centres = indices @ patches[:3, :3].T + patches[:3, 3]
    back = restore_patches(centres.transpose(3, 0, 1, 2), patches, volume)  # each patch holds its place in the world
    at = (20, 24, 18)
    assert np.allclose(back[:, *at], world(volume.affine, at), atol=1e-3)
    assert back.shape == (3, 40, 48, 36) and np.allclose(back[:, 0, 0, 0], centres.reshape(-1, 3).min(0), atol=1e-3)


def test_a_recipe_is_plain_data_with_a_name_of_its_own():
    recipes = [PLAIN, replace(PLAIN, orientation="LPS"), replace(PLAIN, extent=(197.0, 233.0, 189.0))]
    assert [from_dict(to_dict(recipe), BoxRecipe) for recipe in recipes] == recipes
    assert len({recipe.hash() for recipe in recipes}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orientation": "RAR"}, "one of R or L"),
        ({"size": (0, 1, 1)}, "three sides"),
        ({"spacing_mm": 0.0}, "spacing_mm"),
        ({"extent": (1.0, 100.0, 100.0)}, "10 to 1000 mm"),
        ({"brain_extractor": "hdbet"}, "brain_extractor"),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **change)


def test_a_box_beside_the_brain_and_a_poor_scan_are_refused(volume):
    moved = replace(
        volume,
        voxels=np.pad(volume.voxels, ((0, 0), (0, 0), (0, 0), (80, 0))),
        brain_mask=np.pad(volume.brain_mask, ((0, 0), (0, 0), (80, 0))),
    )
    with pytest.raises(ValueError, match=r"of the brain \(at least 50%\); crop the scan to the head"):
        to_box(moved, PLAIN)
    with pytest.raises(ValueError, match="poor scan: brain mask"):
        to_box(volume, replace(PLAIN, brain_ml=(1.0, 2.0)))
    empty = replace(volume, voxels=np.stack([volume.voxels[0], np.zeros_like(volume.voxels[0])]), contrasts=("a", "b"))
    with pytest.raises(ValueError, match="same value"):
        to_box(empty, PLAIN)
