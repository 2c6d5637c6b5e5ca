"""The published chains of MONAI's transforms, step by step, against one box recipe each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino.volume.box import BoxRecipe, to_box
from braindino.volume.recipe import Limits
from phantom import head

ANY = Limits(most_edge_share=1.0, least_snr=0.0, most_cjv=1e9)
OFF_CENTRE = ((0, 0), (3, 20), (11, 0), (0, 9))


@pytest.fixture(scope="module")
def volume():
    """Off centre, with odd and uneven sides, and a second contrast of another scale."""
    scan = head(shape=(41, 47, 36))
    second = np.where(scan.brain_mask, 3000 - 11 * scan.voxels, 0)
    return replace(
        scan,
        voxels=np.pad(np.concatenate([scan.voxels, second]), OFF_CENTRE),
        brain_mask=np.pad(scan.brain_mask, OFF_CENTRE[1:]),
        contrasts=("T1w", "T2w"),
    )


def stripped(volume):
    return torch.from_numpy(volume.voxels * volume.brain_mask)


def same(box, expected):
    expected = np.asarray(expected)
    assert box.voxels.shape == expected.shape
    assert np.allclose(box.voxels, expected, atol=1e-4)


def test_brainiac(volume):
    from monai.transforms import Compose, NormalizeIntensity, Resize

    chain = Compose([Resize((96, 96, 96), mode="trilinear"), NormalizeIntensity(nonzero=True, channel_wise=True)])
    recipe = BoxRecipe((96, 96, 96), "resize", "zscore", spacing_mm=None, limits=ANY)
    same(to_box(volume, recipe), chain(stripped(volume)))


def test_brainiac_of_the_first_generation(volume):
    from monai.transforms import Compose, Resize, ScaleIntensity

    chain = Compose([Resize((48, 48, 48), mode="trilinear"), ScaleIntensity(channel_wise=True)])
    recipe = BoxRecipe((48, 48, 48), "resize", "min_max", spacing_mm=None, limits=ANY)
    same(to_box(volume, recipe), chain(stripped(volume)))


def test_bm_mae(volume):
    from monai.transforms import CenterSpatialCrop, Compose, NormalizeIntensity

    chain = Compose([CenterSpatialCrop((37, 40, 33)), NormalizeIntensity(nonzero=True, channel_wise=True)])
    recipe = BoxRecipe((37, 40, 33), "centre", "zscore", orientation="LPS", spacing_mm=None, limits=ANY)
    same(to_box(volume, recipe), chain(stripped(volume).flip(1, 2)))


def test_brainmvp(volume):
    from monai.transforms import Compose, CropForeground, DivisiblePad, ScaleIntensityRangePercentiles

    chain = Compose(
        [
            CropForeground(allow_smaller=True),
            ScaleIntensityRangePercentiles(5, 95, 0, 1, clip=True, channel_wise=True),
            DivisiblePad(16),
        ]
    )
    recipe = BoxRecipe((16, 16, 16), "multiple", "percentile", spacing_mm=None, extent="foreground", limits=ANY)
    same(to_box(volume, recipe), chain(stripped(volume)))
