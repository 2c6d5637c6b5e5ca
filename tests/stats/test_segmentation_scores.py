import numpy as np
import pytest

from braindino.stats.segmentation import region_scores
from braindino.stats.surfaces import dice, hd95_mm, surface_dice


def box(lo, hi, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))] = True
    return mask


def test_dice_by_hand():
    a, b = box((0, 0, 0), (4, 4, 4)), box((2, 0, 0), (6, 4, 4))
    assert dice(a, b) == 0.5


def test_distance_is_in_millimetres_along_each_axis():
    a = box((5, 5, 5), (6, 6, 6))
    for axis, spacing in enumerate((1.0, 2.0, 3.0)):
        assert hd95_mm(a, np.roll(a, 4, axis), (1.0, 2.0, 3.0)) == pytest.approx(4 * spacing)


def test_distance_by_brute_force():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12, 11, 10)) < 0.05
    spacing = np.array([1.0, 1.5, 4.0])
    p, q = np.argwhere(a) * spacing, np.argwhere(b) * spacing  # sparse: nearly every voxel is surface
    apart = np.linalg.norm(p[:, None] - q[None], axis=-1)
    expected = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
    assert hd95_mm(a, b, tuple(spacing)) == pytest.approx(expected)


def test_solid_boxes_measure_their_surfaces():
    a, b = box((4, 4, 4), (16, 16, 16)), box((6, 6, 6), (14, 14, 14))
    assert 2 <= hd95_mm(a, b, (1.0, 1.0, 1.0)) <= np.sqrt(12)


def test_empty_rule():
    empty, full = box((0, 0, 0), (0, 0, 0)), box((1, 1, 1), (5, 5, 5))
    assert dice(empty, empty) == 1 and hd95_mm(empty, empty, (1.0, 1.0, 1.0)) == 0
    assert dice(full, empty) == 0 and dice(empty, full) == 0
    assert surface_dice(empty, empty, (1.0, 1.0, 1.0)) == 1
    assert surface_dice(full, empty, (1.0, 1.0, 1.0)) == surface_dice(empty, full, (1.0, 1.0, 1.0)) == 0
    assert hd95_mm(full, empty, (1.0, 2.0, 2.0)) == pytest.approx(60)  # |(20, 40, 40)|
    assert hd95_mm(empty, full, (1.0, 2.0, 2.0)) == pytest.approx(60)


def test_surface_dice_by_hand():
    """A plate shifted by 2 voxels of 1.5 mm along its thin axis: no surface voxel within 1 mm, all within 3 mm."""
    a, b = box((5, 2, 2), (6, 8, 8)), box((7, 2, 2), (8, 8, 8))
    assert surface_dice(a, b, (1.5, 1.0, 1.0)) == 0 and surface_dice(a, b, (1.5, 1.0, 1.0), 3.0) == 1
    line = box((5, 2, 2), (6, 8, 3)), box((5, 4, 2), (6, 10, 3))  # 6 voxels, shifted by 2 along themselves
    assert surface_dice(*line, (1.0, 1.0, 1.0)) == 10 / 12  # the last voxel of either is 2 mm away


def test_surface_dice_by_brute_force():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 12, 11, 10)) < 0.04
    spacing = np.array([1.0, 1.5, 4.0])
    p, q = np.argwhere(a) * spacing, np.argwhere(b) * spacing
    apart = np.linalg.norm(p[:, None] - q[None], axis=-1)
    for tolerance in (1.0, 2.0, 5.0):
        near = (apart.min(1) <= tolerance).sum() + (apart.min(0) <= tolerance).sum()
        assert surface_dice(a, b, tuple(spacing), tolerance) == pytest.approx(near / (len(p) + len(q)))


def test_regions_are_unions_of_labels():
    truth = np.zeros((6, 6, 6), np.int16)
    truth[1:5, 1:5, 1:5], truth[2:4, 2:4, 2:4] = 2, 1
    scores = region_scores(truth, np.where(truth > 0, 2, 0), {"whole": (1, 2), "core": (1,)}, (1.0, 1.0, 1.0))
    assert scores["whole_dice"] == 1 and scores["whole_hd95_mm"] == 0
    assert scores["whole_surface_dice"] == 1 and scores["core_surface_dice"] == 0
    assert scores["whole_lesionwise_dice"] == 1 and scores["whole_lesionwise_hd95_mm"] == 0
    assert scores["core_dice"] == 0 and scores["core_hd95_mm"] == pytest.approx(6 * np.sqrt(3))


def test_refuses_other_grids_and_spacings():
    with pytest.raises(ValueError, match="different grids"):
        dice(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool))
    with pytest.raises(ValueError, match="spacing"):
        hd95_mm(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1.0, 0.0, 1.0))
