"""Patch masks: exact numbers, blocks, one generator."""

import numpy as np
import pytest
import torch

from braindino.pretraining.losses import patch_weights
from braindino.pretraining.masks import sample_mask, sample_masks


def counts(images, **settings):
    return sample_masks(np.random.default_rng(0), images, (14, 14), **settings).sum(1)


def test_counts_of_four_subjects_are_the_known_ones():
    assert sorted(counts(8)) == [0, 0, 0, 0, 39, 58, 78, 98]


def test_weights_of_masked_patches_sum_to_the_number_of_masked_images():
    masks = torch.from_numpy(sample_masks(np.random.default_rng(0), 8, (14, 14)))
    assert patch_weights(masks).sum().item() == pytest.approx(4)


def test_counts_of_64_subjects_are_the_known_ones():
    found = counts(128)
    assert (found > 0).sum() == 64 and found.sum() == 3771
    assert found[found > 0].min() == 20 and found.max() == 98


@pytest.mark.parametrize("count", [0, 1, 3, 60, 98, 150, 196])
def test_one_mask_has_exactly_the_count_asked_for(count):
    rng = np.random.default_rng(1)
    assert all(sample_mask(rng, (14, 14), count).sum() == count for _ in range(50))


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (2, 2), (4, 6), (3, 20)])
def test_small_and_oblong_grids(grid):
    rng = np.random.default_rng(2)
    for count in range(grid[0] * grid[1] + 1):
        mask = sample_mask(rng, grid, count)
        assert mask.shape == (grid[0] * grid[1],) and mask.sum() == count


def test_masks_are_made_of_blocks():
    """A masked patch has far more masked neighbours below it than one of a mask of single patches."""
    rng = np.random.default_rng(3)

    def share(masks):
        maps = masks.reshape(-1, 14, 14)
        return (maps[:, 1:] & maps[:, :-1]).sum() / maps[:, :-1].sum()

    blocks = np.stack([sample_mask(rng, (14, 14), 60) for _ in range(100)])
    single = np.stack([rng.permutation(196) < 60 for _ in range(100)])
    assert share(single) == pytest.approx(60 / 196, abs=0.03)
    assert share(blocks) > 0.6


def test_every_patch_and_every_image_has_its_turn():
    masks = np.stack([sample_masks(np.random.default_rng(seed), 8, (14, 14)) for seed in range(300)])
    assert masks.any(-1).mean(0) == pytest.approx(0.5, abs=0.12)
    # Blocks lie inside the grid, so that corners are hidden less often than the middle, but they are.
    by_place = masks.mean((0, 1))
    assert by_place.min() > 0.015 and by_place.mean() == pytest.approx((39 + 58 + 78 + 98) / 8 / 196)


def test_the_generator_decides_everything():
    def run(seed):
        return sample_masks(np.random.default_rng(seed), 6, (14, 14))

    assert np.array_equal(run(4), run(4)) and not np.array_equal(run(4), run(5))


def test_probability_and_ratio():
    assert counts(8, probability=0.0).sum() == 0
    assert (counts(8, probability=1.0, ratio=(0.25, 0.25)) == 49).all()
    assert (counts(1, probability=0.5) == 0).all()


@pytest.mark.parametrize("settings", [{"probability": 1.1}, {"ratio": (0.5, 0.1)}, {"ratio": (0.1, 1.5)}])
def test_shares_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match="need 0 <= probability <= 1"):
        counts(4, **settings)
