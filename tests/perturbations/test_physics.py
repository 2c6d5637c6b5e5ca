"""Each perturbation against what physics, or another way to compute it, says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from braindino.perturbations import (
    bias_field,
    coarse,
    contrast,
    flip,
    gibbs,
    intensity_scale,
    low_resolution,
    motion,
    noise,
    orientation,
    thick_slices,
)
from phantom import head, scanned


def test_gamma_by_hand():
    volume = replace(head((4, 4, 4)), voxels=np.linspace(0, 8, 64, dtype=np.float32).reshape(1, 4, 4, 4))
    for subject_seed in range(4):
        after = contrast.apply(volume, 5, subject_seed).voxels.ravel()
        gamma = 0.5 if after[32] > volume.voxels.ravel()[32] else 2.0
        np.testing.assert_allclose(after, 8 * (volume.voxels.ravel() / 8) ** gamma, rtol=1e-5)


def test_a_hot_voxel_changes_the_scale_of_gamma_only():
    volume = head()
    hot = volume.voxels.copy()
    hot[0, 0, 0, 0] = 1e5
    a, b = (contrast.apply(replace(volume, voxels=v), 5, 1).voxels[0][volume.brain_mask] for v in (volume.voxels, hot))
    np.testing.assert_allclose(a / a.mean(), b / b.mean(), rtol=1e-4)


@pytest.mark.parametrize("shape", [(48, 56, 44), (45, 51, 43)])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gibbs_leaves_k_space_empty_outside(shape, severity):
    rng = np.random.default_rng(0)
    spacing = (1.0, 1.25, 4.0)
    volume = replace(head(shape, spacing), voxels=rng.random((1, *shape), dtype=np.float32), brain_mask=None)
    after = gibbs.apply(volume, severity, 0).voxels[0].astype(float)
    most = gibbs.SEVERITIES[severity] / 2
    spectra = [np.fft.fftn(image) for image in (volume.voxels[0].astype(float), after)]
    kept = np.ones(shape, bool)
    for axis, (size, edge) in enumerate(zip(shape, spacing, strict=True)):
        near = np.abs(np.fft.fftfreq(size, edge)) <= most + 1e-9
        kept &= near.reshape([-1 if a == axis else 1 for a in range(3)])
    assert np.abs(spectra[1][~kept]).max() < 1e-5 * np.abs(spectra[1]).max()
    np.testing.assert_allclose(spectra[1][kept], spectra[0][kept], atol=1e-2)
    assert np.abs(np.fft.fftfreq(shape[2], 4.0)).max() <= most + 1e-9  # thick slices keep all of theirs
    assert np.sum(after**2) < np.sum(volume.voxels[0].astype(float) ** 2)


def test_gibbs_overshoots_by_nine_percent():
    """The Wilbraham-Gibbs constant: a step of height 1 overshoots by 8.95 %."""
    step = np.zeros((1, 512, 4, 4), np.float32)
    step[:, 128:384] = 1
    volume = replace(head((512, 4, 4), (1.0, 1.0, 1.0)), voxels=step, brain_mask=None)
    assert gibbs.apply(volume, 5, 0).voxels.max() - 1 == pytest.approx(0.0895, abs=0.01)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_bias_field_is_a_smooth_polynomial_of_the_stated_amplitude(severity):
    volume = scanned(contrasts=2)
    field = np.log(bias_field.apply(volume, severity, 2).voxels.astype(float) / volume.voxels)
    amplitude = np.log1p(bias_field.SEVERITIES[severity])
    assert field[0].min() == pytest.approx(-amplitude, rel=1e-3) and field[0].max() == pytest.approx(
        amplitude, rel=1e-3
    )
    np.testing.assert_allclose(field[0], field[1], atol=1e-5)
    for axis in range(3):  # degree 3: fourth differences vanish, third ones do not
        assert np.abs(np.diff(field[0], 4, axis=axis)).max() < 1e-5


def test_noise_is_rician():
    volume = scanned(contrasts=2)
    share = noise.SEVERITIES[4]
    quiet = replace(volume, voxels=np.where(volume.brain_mask, 100.0, 0.0)[None].astype(np.float32).repeat(2, 0))
    quiet = replace(quiet, affine=np.diag([9.0, 9.0, 9.0, 1.0]))  # larger than any brain: not taken for stripped
    after = noise.apply(quiet, 4, 0).voxels
    air, brain = after[:, ~volume.brain_mask], after[:, volume.brain_mask]
    sigma = 100 * share
    np.testing.assert_allclose(air.mean(1), sigma * np.sqrt(np.pi / 2), rtol=0.01)
    np.testing.assert_allclose(brain.mean(1), stats.rice(1 / share, scale=sigma).mean(), rtol=0.003)
    np.testing.assert_allclose(brain.std(1), stats.rice(1 / share, scale=sigma).std(), rtol=0.03)
    assert stats.kstest(air[0], stats.rayleigh(scale=sigma).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(air)[0, 1]) < 0.02


def test_noise_needs_a_positive_brain():
    volume = scanned()
    with pytest.raises(ValueError, match="mean intensity within the brain"):
        noise.apply(replace(volume, voxels=-volume.voxels), 1, 0)


def test_motion_moves_lines_of_k_space_only():
    """Lines near the centre are those of the head at rest; others have another phase."""
    volume = scanned()
    image = volume.voxels[0]
    after = motion.apply(volume, 5, 4).voxels[0]
    assert (after >= 0).all() and after.mean() == pytest.approx(image.mean(), rel=0.05)
    small = motion.apply(volume, 1, 4).voxels[0]
    centre = [np.fft.fft(x, axis=1)[:, 0] for x in (image, small)]
    assert np.linalg.norm(centre[1] - centre[0]) < 0.05 * np.linalg.norm(centre[0])
    place = [np.array(ndimage.center_of_mass(x)) for x in (image, after)]
    assert np.abs(place[0] - place[1]).max() < 0.5, "the head is seen where its mask lies"


def test_a_pose_is_in_millimetres_and_degrees():
    volume = head((32, 32, 32), (1.0, 2.0, 4.0))
    image = np.zeros((32, 32, 32), np.float32)
    image[10, 16, 16] = 1
    shifted = motion._posed(image, volume, np.array([3.0, 4.0, 8.0]), np.zeros(3))
    assert np.unravel_index(shifted.argmax(), shifted.shape) == (13, 18, 18)
    image[:] = 0
    image[7:10, 15:17, 15:17] = 1  # 7.5 mm left of the middle; a right angle about the third axis: 7.5 mm behind it
    turned = motion._posed(image, volume, np.zeros(3), np.array([0.0, 0.0, 90.0]))
    middle = np.array(ndimage.center_of_mass(turned))
    np.testing.assert_allclose(middle, [15.5, 15.5 - 7.5 / 2, 15.5], atol=0.15)


@pytest.mark.parametrize("size,voxels", [(60, 3.0), (60, 2.5), (61, 4.0), (44, 1.3), (10, 20.0)])
def test_coarse_voxels(size, voxels):
    matrix = coarse(size, voxels)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert (matrix >= 0).all()
    inside = slice(int(2 * voxels), size - int(2 * voxels))
    np.testing.assert_allclose(
        (matrix @ np.arange(size))[inside], np.arange(size)[inside], atol=0.13 if voxels % 1 else 1e-4
    )
    if size == 60 and voxels == 3.0:
        means = np.arange(60.0).reshape(20, 3) ** 2
        expected = np.interp(np.arange(60), np.arange(20) * 3 + 1, means.mean(1))
        np.testing.assert_allclose(matrix @ np.arange(60.0) ** 2, expected, rtol=1e-5)


def test_resolution_is_lost_along_the_stated_axes_only():
    volume = scanned(spacing=(1.0, 1.0, 3.0))
    low, thick = low_resolution.apply(volume, 2, 0).voxels[0], thick_slices.apply(volume, 5, 0).voxels[0]

    def high(image, axis):
        spectrum = np.abs(np.fft.rfft(image - image.mean(axis, keepdims=True), axis=axis)) ** 2
        upper = np.moveaxis(spectrum, axis, 0)
        return float(upper[len(upper) * 3 // 4 :].sum())

    before = [high(volume.voxels[0], axis) for axis in range(3)]
    assert [high(low, a) < 0.3 * before[a] for a in range(3)][:2] == [True, True]
    np.testing.assert_allclose(low.sum(axis=(0, 1)), volume.voxels[0].sum(axis=(0, 1)), rtol=0.01)
    assert high(thick, 2) < 0.1 * before[2] and high(thick, 0) > 0.2 * before[0]
    assert "left as they are" in thick_slices.apply(volume, 2, 0).history[-1]


def test_flip_mirrors_everything_but_the_header():
    volume = scanned()
    after = flip.apply(volume, 2, 0)
    np.testing.assert_array_equal(after.voxels, volume.voxels[:, ::-1])
    np.testing.assert_array_equal(after.label_map, np.flip(volume.label_map, 0))
    assert flip.apply(after, 1, 0).voxels.tobytes() == volume.voxels.tobytes()
    inside = volume.label_map > 0
    assert after.voxels[0][after.label_map > 0].sum() == pytest.approx(volume.voxels[0][inside].sum())


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_orientation_is_what_the_codes_say(severity):
    """Voxel (a, b, c) of the wrong volume lies where its own codes point."""
    volume = scanned()
    after = orientation.apply(volume, severity, 0)
    codes = orientation.SEVERITIES[severity]
    index = (7, 11, 20)
    source = [0, 0, 0]
    for own, code in zip(index, codes, strict=True):
        axis = next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        source[axis] = own if code in "RAS" else volume.voxels.shape[axis + 1] - 1 - own
    assert after.voxels[0][index] == volume.voxels[0][tuple(source)]
    np.testing.assert_array_equal(
        after.voxels[0][after.label_map > 0].sum(), volume.voxels[0][volume.label_map > 0].sum()
    )
    assert after.brain_mask.sum() == volume.brain_mask.sum() and codes in after.history[-1]


def test_intensity_scale():
    volume = scanned()
    ratios = {round(float((intensity_scale.apply(volume, 3, s).voxels / volume.voxels).mean()), 3) for s in range(8)}
    assert ratios == {10.0, 0.1}
