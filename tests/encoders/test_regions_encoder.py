"""Regions: numbers worked by hand, left is not right, nothing is ever NaN."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindino import catalog
from braindino.encoders.regions import GRID, NAMES, PARTS, RECIPE, describe, two_thresholds
from braindino.heads import decoder

SHAPE, SPACING = (6, 8, 6), (2.0, 2.0, 2.0)
ALL = np.ones(SHAPE, bool)


def load(**given):
    return catalog.load("encoders", "regions").load(**given)


def numbers(image, mask=ALL):
    return dict(zip(NAMES, describe(image.astype(np.float32), mask, SPACING).tolist(), strict=True))


def box_of(found, place):
    return [found[f"{place}_{part}"] for part in PARTS]


def test_a_ramp_by_hand():
    """x = 0 ... 5 from left to right: boxes of 2 x 2 x 2 voxels, a slope of 1 per 2 mm."""
    ramp = np.broadcast_to(np.arange(6.0)[:, None, None], SHAPE)
    found = numbers(ramp)
    whole = [found[name] for name in NAMES[:7]]
    assert np.allclose(whole, [288 * 8 / 1000, 12, 16, 12, 1 / 3, 1 / 3, 1 / 3])
    for r, mean in enumerate((0.5, 2.5, 4.5)):
        for place in (f"r{r}_a0_s0", f"r{r}_a3_s1", f"r{r}_a1_s2"):
            expected = [8 / 288, mean, 0.5, 0.0, mean - 0.5, mean, mean + 0.5, 0.25]
            assert np.allclose(box_of(found, place), expected)


def test_skewness_and_a_hole_by_hand():
    """One voxel of 8 among seven zeros; a box without brain; a rim where no gradient is known."""
    image, mask = np.zeros(SHAPE), ALL.copy()
    image[3, 2, 2] = 8.0
    mask[4:, 6:, 4:] = False
    found = numbers(image, mask)
    assert np.allclose(box_of(found, "r1_a1_s1")[:4], [8 / 280, 1.0, np.sqrt(7), 42 / 7**1.5])
    assert box_of(found, "r2_a3_s2") == [0.0] * len(PARTS)
    assert np.isclose(found["r0_a0_s0_volume_share"], 8 / 280)
    # the central difference is +-8 / 4 mm at the six neighbours; of box r1_a1_s1 three are in it, of eight voxels
    assert np.isclose(found["r1_a1_s1_gradient_energy"], 3 * 4 / 8)
    assert np.isclose(found["r1_a0_s1_gradient_energy"], 4 / 4)  # of its eight, four have neighbours on all sides


def test_three_classes_are_found():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(m, 0.1, n) for m, n in ((-2, 300), (0, 500), (1, 200))])
    low, high = two_thresholds(values)
    counts = [((a <= values) & (values < b)).sum() for a, b in ((-9, low), (low, high), (high, 9))]
    assert counts == [300, 500, 200]


def brute(values):
    """The least variance within three classes, over all pairs of thresholds between the values."""
    ordered = np.sort(values)
    pairs = [(a, b) for a in range(1, len(ordered) - 1) for b in range(a + 1, len(ordered))]
    return min(sum(part.var() * len(part) for part in np.split(ordered, pair)) for pair in pairs)


def test_the_thresholds_are_the_best_ones():
    for seed in range(5):
        values = np.random.default_rng(seed).integers(0, 256, 25).astype(float)
        classes = np.searchsorted(two_thresholds(values), values, side="right")
        within = sum(values[classes == n].var() * (classes == n).sum() for n in range(3))
        assert within == pytest.approx(brute(values), rel=0.02)


def test_left_is_not_right():
    """A mirrored brain has the numbers of the other side; a bright spot on the left changes the left boxes only."""
    image = np.random.default_rng(1).normal(size=SHAPE)
    found, mirrored = numbers(image), numbers(image[::-1])
    for a, s in np.ndindex(*GRID[1:]):
        assert np.allclose(box_of(found, f"r0_a{a}_s{s}"), box_of(mirrored, f"r2_a{a}_s{s}"), atol=1e-6)
    assert not np.allclose(box_of(found, "r0_a1_s1"), box_of(found, "r2_a1_s1"), atol=0.05)
    spot = image.copy()
    spot[0, 3, 3] += 4
    changed = {name for name, value in numbers(spot).items() if not np.isclose(value, found[name])}
    assert "r0_a1_s1_mean" in changed and not any(name.startswith(("r1", "r2")) for name in changed)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_ever_nan(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < (0.005, 0.05, 0.3)[seed % 3]
    mask[2, 2, 2] = True
    image = np.full(SHAPE, 3.3) if seed < 3 else rng.normal(size=SHAPE)
    found = numbers(image, mask)
    assert np.isfinite(list(found.values())).all()
    assert sum(value for name, value in found.items() if name.endswith("volume_share")) == pytest.approx(1, abs=1e-5)


def test_a_view_per_contrast_and_what_the_scan_says_of_its_brain(volume):
    encoder = load()
    both = replace(volume, voxels=np.stack([volume.voxels[0], -volume.voxels[0]]), contrasts=("T1w", "T2w"))
    got, again = encoder.tokens(both), load().tokens(both)
    assert got.cls.shape == (2, encoder.dim) == (2, len(NAMES)) == (2, 295) and got.contrasts == ("T1w", "T2w")
    assert np.array_equal(got.cls, again.cls) and got.patch is None and encoder.recipe == RECIPE
    assert got.cls[0, 0] == pytest.approx(volume.brain_mask.sum() * 64 / 1000)
    means = [n for n, name in enumerate(NAMES) if name.endswith("_mean")]
    assert np.allclose(got.cls[0, means], -got.cls[1, means], atol=1e-4)
    front, back = (got.cls[0, NAMES.index(f"r1_a{a}_s1_mean")] for a in (3, 0))
    assert front > 1 > -1 > back, "the phantom is brighter in front"
    assert len(set(NAMES)) == len(NAMES) and encoder.digest() == load().digest()


def test_an_empty_contrast_is_a_clear_error(volume):
    empty = replace(volume, voxels=np.stack([volume.voxels[0], 0 * volume.voxels[0]]), contrasts=("T1w", "T2w"))
    with pytest.raises(ValueError, match="all voxels inside the brain mask have the same value"):
        load().tokens(empty)


def test_a_dense_head_refuses_an_encoder_without_patches():
    with pytest.raises(ValueError, match="encoder 'regions' gives no patch tokens; a dense head cannot use it"):
        decoder._grid(load())


def test_weights_and_unknown_variants_are_refused():
    with pytest.raises(ValueError, match=r"regions has no weights; leave out some\.pth"):
        load(weights=Path("some.pth"))
    with pytest.raises(ValueError, match=r"unknown variant 'paper' of regions"):
        load(variant="paper")


def test_it_has_learned_of_nobody():
    """So its predictions say `no` in the column `pretrained`, not `unknown`."""
    assert load(weights=None, seed=0).seen == frozenset()
