import numpy as np
import pytest

from braindino.stats.lesions import PENALTY_MM, lesionwise
from braindino.stats.surfaces import dice, hd95_mm

ONE = (1.0, 1.0, 1.0)


def boxes(*corners, shape=(60, 40, 40)):
    mask = np.zeros(shape, bool)
    for corner, side in corners:
        mask[tuple(slice(start, start + side) for start in corner)] = True
    return mask


def test_one_found_one_missed_one_invented():
    """Dice (2 * 48 / (64 + 48) + 0 + 0) / 3; the half-seen lesion is 1 mm off, the two others cost 374 mm each."""
    truth = boxes(((5, 5, 5), 4), ((30, 5, 5), 4))
    predicted = boxes(((50, 30, 30), 2)) | (boxes(((5, 5, 5), 4)) & (np.arange(60) < 8)[:, None, None])
    got = lesionwise(truth, predicted, ONE)
    assert (got.found, got.missed, got.invented) == (1, 1, 1)
    assert got.dice == pytest.approx(96 / 112 / 3)
    assert got.hd95_mm == pytest.approx((1 + 2 * PENALTY_MM) / 3)


def test_empty_rule():
    empty, full = boxes(), boxes(((5, 5, 5), 5))
    assert (lesionwise(empty, empty, ONE).dice, lesionwise(empty, empty, ONE).hd95_mm) == (1, 0)
    for pair in ((full, empty), (empty, full)):
        assert (lesionwise(*pair, ONE).dice, lesionwise(*pair, ONE).hd95_mm) == (0, PENALTY_MM)
    assert (lesionwise(full, full, ONE).dice, lesionwise(full, full, ONE).hd95_mm) == (1, 0)


def test_parts_that_nearly_touch_are_one_lesion():
    """Growth by 3 voxels from both sides bridges 6 empty voxels, not 8."""
    for gap, lesions in ((6, 1), (8, 2)):
        truth = boxes(((5, 5, 5), 4), ((9 + gap, 5, 5), 4))
        got = lesionwise(truth, boxes(((5, 5, 5), 4)), ONE)
        assert got.found + got.missed == lesions
        assert got.dice == pytest.approx(2 / 3 if lesions == 1 else 1 / 2)


def test_small_lesions_are_not_counted_and_what_lies_on_them_is_not_invented():
    small, large = ((5, 5, 5), 3), ((30, 5, 5), 4)  # 27 and 64 voxels
    truth = boxes(small, large)
    assert lesionwise(truth, boxes(large), ONE).dice == 1
    assert lesionwise(truth, boxes(small, large), ONE).dice == 1
    assert lesionwise(truth, boxes(large), ONE, dilation=1, least_voxels=2).dice == 1 / 2
    assert lesionwise(boxes(small), boxes(), ONE).dice == 1


def test_a_prediction_beside_a_lesion_belongs_to_it():
    """Three voxels away: touched by the growth, so not invented, but without overlap."""
    truth = boxes(((5, 5, 5), 4))
    got = lesionwise(truth, boxes(((11, 5, 5), 4)), ONE)
    assert (got.found, got.invented, got.dice) == (1, 0, 0) and got.hd95_mm == pytest.approx(6, abs=0.5)
    got = lesionwise(truth, boxes(((14, 5, 5), 4)), ONE)
    assert (got.missed, got.invented, got.dice) == (1, 1, 0)


def test_one_lesion_is_the_plain_metric():
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth = boxes((rng.integers(5, 9, 3), 9))
        predicted = boxes((rng.integers(5, 9, 3), 8))
        spacing = (1.0, 1.5, 2.0)
        got = lesionwise(truth, predicted, spacing)
        assert got.dice == pytest.approx(dice(truth, predicted))
        assert got.hd95_mm == pytest.approx(hd95_mm(truth, predicted, spacing))


def test_many_lesions_by_a_slow_second_way():
    """Distances between voxels instead of dilations: steps of 18 neighbours within 3, written out per pair."""
    rng = np.random.default_rng(5)
    places = [(x, y, z) for x in (4, 24, 44) for y in (4, 24) for z in (4, 24)]
    kept = [place for place in places if rng.random() < 0.7]
    said = [tuple(np.add(p, rng.integers(-2, 3, 3))) for p in places if rng.random() < 0.7]
    truth, predicted = boxes(*((p, 5) for p in kept)), boxes(*((p, 5) for p in said))
    scores = []
    for place in kept:
        near = [q for q in said if max(abs(np.subtract(place, q))) <= 5]
        scores += [dice(boxes((place, 5)), boxes(*((q, 5) for q in near)))]
    invented = sum(all(max(abs(np.subtract(p, q))) > 5 for p in kept) for q in said)
    got = lesionwise(truth, predicted, ONE)
    assert got.invented == invented > 0
    assert got.dice == pytest.approx(sum(scores) / (len(scores) + invented))
