"""What every perturbation keeps: identity at 0, the same bytes again, more with severity, masks moved along."""

from dataclasses import replace

import numpy as np
import pytest

from braindino import catalog
from braindino.perturbations import generator
from phantom import head, scanned

NAMES = catalog.names("perturbations")
TURNING = ("flip", "orientation")
GROWING = tuple(name for name in NAMES if name not in TURNING)


def perturbed(name, volume, severity, seed=0):
    return catalog.load("perturbations", name).apply(volume, severity, seed)


def test_the_list():
    assert set(NAMES) == {
        *("contrast", "gibbs", "bias_field", "noise", "motion", "low_resolution", "thick_slices"),
        *("flip", "orientation", "intensity_scale"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    module, volume = catalog.load("perturbations", name), scanned(contrasts=2)
    before = volume.voxels.tobytes()
    assert len(module.SEVERITIES) == 6 and module.UNIT
    assert module.apply(volume, 0, 3) is volume
    once, again = module.apply(volume, 5, 3), module.apply(volume, 5, 3)
    assert volume.voxels.tobytes() == before
    assert once.voxels.tobytes() == again.voxels.tobytes() and once.voxels.tobytes() != before
    assert once.voxels.dtype == np.float32 and np.isfinite(once.voxels).all() and once.voxels.flags["C_CONTIGUOUS"]
    assert once.history[0] == "read" and len(once.history) == 2 and once.history[1].startswith("perturbed: ")
    np.testing.assert_array_equal(once.affine, volume.affine)
    assert once.voxels.shape[1:] == once.brain_mask.shape == once.label_map.shape
    for severity in (-1, 6):
        with pytest.raises(ValueError, match="severity must be 0 to 5"):
            module.apply(volume, severity, 0)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (1.0, 1.0, 4.0)])
def test_more_severe_is_further_away(name, spacing):
    volume = scanned(spacing=spacing, brain_mask=np.ones((48, 56, 44), bool))
    where = volume.voxels if name != "intensity_scale" else np.log(volume.voxels + 1)
    apart = []
    for severity in range(6):
        voxels = perturbed(name, volume, severity).voxels
        apart.append(float(np.linalg.norm((voxels if name != "intensity_scale" else np.log(voxels + 1)) - where)))
    least = 3 if name in ("thick_slices", "low_resolution") else 1  # finer than the voxels of this head: nothing
    steps = np.diff(apart)
    assert apart[0] == 0 and (steps >= 0).all() and (steps[least:] > 0).all(), apart


@pytest.mark.parametrize("name", ["contrast", "bias_field", "noise", "motion", "intensity_scale"])
def test_random_numbers_are_of_seed_subject_and_name(name):
    def change(subject, seed):
        return perturbed(name, scanned(subject), 4, seed).voxels.tobytes()

    subjects = {change(f"sub-{n:02d}", 0) for n in range(6)}
    seeds = {change("sub-01", seed) for seed in range(8)}
    assert len(subjects) > 1 and len(seeds) > 1
    assert change("sub-01", 0) in subjects & seeds


def test_purposes_have_their_own_numbers():
    volume = scanned()
    assert generator(volume, 0, "noise").random() != generator(volume, 0, "motion").random()
    assert generator(head(), 0, "noise").random() == generator(head(), 0, "noise").random()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TURNING])
def test_masks_stay_where_nothing_moves(name):
    volume = scanned()
    after = perturbed(name, volume, 5)
    assert after.brain_mask is volume.brain_mask and after.label_map is volume.label_map


@pytest.mark.parametrize("name", ["gibbs", "noise", "motion", "low_resolution", "thick_slices"])
def test_what_was_stripped_stays_away(name):
    volume = head((48, 56, 44), (3.5, 3.5, 3.5))
    outside = ~volume.brain_mask
    after = perturbed(name, replace(volume, brain_mask=None), 4)
    assert (after.voxels[0][outside] == 0).all() and (after.voxels != volume.voxels).any()
