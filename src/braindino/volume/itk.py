"""Two optional corrections by SimpleITK (extra `registration`): the bias field (N4), and alignment to a template.

Both run on one thread with fixed seeds, so that the same scan gives the same voxels.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from braindino.types import Volume

N4_SHRINK, N4_ITERATIONS = 4, (50, 50, 30, 20)
"""The field is fitted on every fourth voxel, on four levels of splines."""
TEMPLATE_MM = 2.0
"""Spacing of the template before it is shrunk."""
BRAIN_LEVEL = 0.2
"""The template, 0 to 1, is brain above this (nilearn's own threshold): 1883 ml."""
GRID_MM = (0.5, 4.0)
"""The aligned volume has the scan's finest spacing, within these bounds."""
LEAST_OVERLAP = 0.85
"""Dice of the aligned brain mask and the template's: below it the alignment failed."""
SCALES = (0.5, 1.6)
"""Bounds of the scan's size over the template's along any direction: a newborn's brain to a large one."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS, our world, to LPS, ITK's; and back."""


def correct_bias(volume: Volume, mask: Bool[np.ndarray, "i j k"]) -> Volume:
    """Divide every contrast by its bias field as N4 estimates it inside `mask` (Tustison 2010).

    x <- x / exp(b), b a B-spline fitted on every `N4_SHRINK`-th voxel and evaluated on every voxel.

    Raises:
        ValueError: SimpleITK is missing, or intensities inside the brain are negative (already normalised).
    """
    itk = _simpleitk("recipe.bias = 'n4'")
    return replace(
        volume,
        voxels=np.stack([_unbiased(itk, image, mask, volume.spacing_mm) for image in volume.voxels]),
        history=(*volume.history, f"bias field of each contrast removed (N4, SimpleITK {itk.Version.VersionString()})"),
    )


def align(volume: Volume, mask: Bool[np.ndarray, "i j k"]) -> Volume:
    """Resample a volume, its mask and its label map to the MNI152 T1w template by an affine map of the brain.

    Found for the first contrast, by regular-step gradient descent from the centres of mass: first the masks onto each
    other (mean squares, 8 mm voxels), then the brains (Mattes mutual information, 4 mm voxels), which serves every
    contrast. Voxels are interpolated linearly, once; mask and labels take the nearest.

    Returns:
        The volume in the template's world, with `to_scan`, the map back to the scan's world.

    Raises:
        ValueError: SimpleITK or nilearn is missing, the affine is sheared, or the aligned brain does not cover the
            template's (Dice below `LEAST_OVERLAP`) or is stretched beyond `SCALES`.
    """
    itk = _simpleitk("recipe.template = 'mni152'")
    brain, brain_affine = _template()
    fixed = [_image(itk, array.astype(np.float32), brain_affine) for array in (brain, brain > 0)]
    images = (np.where(mask, volume.voxels[0], 0), mask)
    moving = [_image(itk, array.astype(np.float32), volume.affine) for array in images]
    found = _affine(itk, (fixed[0], fixed[1]), (moving[0], moving[1]))
    spacing = float(np.clip(min(volume.spacing_mm), *GRID_MM))
    shape, affine = _grid(brain.shape, brain_affine, spacing)
    target = _image(itk, np.zeros(shape, np.float32), affine)

    def carried(array: Shaped[np.ndarray, "a b c"], how: Any) -> Shaped[np.ndarray, "i j k"]:
        return _array(itk, itk.Resample(_image(itk, array, volume.affine), target, found, how, 0.0))

    aligned = carried(mask.astype(np.uint8), itk.sitkNearestNeighbor) > 0
    overlap = _overlap(itk, target, aligned, fixed[0], brain > 0)
    to_scan = LPS @ _matrix(itk, found) @ LPS
    scales = np.linalg.svd(to_scan[:3, :3], compute_uv=False)
    if not (overlap >= LEAST_OVERLAP and scales.min() >= SCALES[0] and scales.max() <= SCALES[1]):
        raise ValueError(
            f"alignment to MNI152 failed: Dice of the brains {overlap:.2f} (at least {LEAST_OVERLAP}), scales "
            f"{scales.min():.2f} to {scales.max():.2f} (within {SCALES[0]} to {SCALES[1]}); "
            "use recipe.template = 'none', or a better brain mask"
        )
    labels = volume.label_map
    return replace(
        volume,
        voxels=np.stack([carried(image, itk.sitkLinear) for image in volume.voxels]),
        affine=affine,
        brain_mask=aligned,
        label_map=None if labels is None else carried(labels.astype(np.int16), itk.sitkNearestNeighbor),
        to_scan=to_scan,
        history=(
            *volume.history,
            f"aligned to MNI152 by 12 parameters, Dice {overlap:.3f} (SimpleITK {itk.Version.VersionString()})",
        ),
    )


def _simpleitk(why: str) -> Any:
    try:
        itk = importlib.import_module("SimpleITK")
    except ImportError:
        raise ValueError(f"{why} needs SimpleITK, which is missing: pip install 'braindino[registration]'") from None
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return itk


def _unbiased(
    itk: Any, image: Float32[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], spacing: tuple[float, float, float]
) -> Float32[np.ndarray, "i j k"]:
    if image[mask].min() < 0:
        raise ValueError("N4 works on raw intensities, but some inside the brain are negative; is the scan normalised?")
    affine = np.diag([*spacing, 1.0])
    whole = _image(itk, image, affine)
    shrink = [max(1, min(N4_SHRINK, size // 8)) for size in image.shape]
    small = itk.Shrink(whole, shrink)
    inside = itk.Shrink(_image(itk, (mask & (image > 0)).astype(np.uint8), affine), shrink)
    corrector = itk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(N4_ITERATIONS)
    corrector.Execute(small, inside)
    field = _array(itk, corrector.GetLogBiasFieldAsImage(whole))
    return np.asarray(image / np.exp(field), np.float32)


@cache
def _template() -> tuple[Float32[np.ndarray, "i j k"], Float[np.ndarray, "4 4"]]:
    """The MNI152 brain (ICBM 2009a symmetric, as in nilearn's wheel) at `TEMPLATE_MM`, and its affine."""
    try:
        datasets = importlib.import_module("nilearn.datasets")
    except ImportError:
        raise ValueError(
            "recipe.template = 'mni152' needs nilearn, which holds the template: pip install 'braindino[registration]'"
        ) from None
    image = datasets.load_mni152_template(resolution=int(TEMPLATE_MM))
    brain = np.asarray(image.dataobj, np.float32)
    return np.where(brain > BRAIN_LEVEL, brain, np.float32(0)), np.asarray(image.affine, float)


def _affine(itk: Any, fixed: tuple[Any, Any], moving: tuple[Any, Any]) -> Any:
    """The affine map from template points to scan points, each given as (brain, mask)."""
    kind = itk.CenteredTransformInitializerFilter.MOMENTS
    found = itk.CenteredTransformInitializer(fixed[1], moving[1], itk.AffineTransform(3), kind)
    near = itk.BinaryDilate(itk.Cast(fixed[1] > 0, itk.sitkUInt8), (4, 4, 4))
    try:
        _climb(itk, fixed[1], moving[1], found, step=1.0, shrink=4, within=None)
        _climb(itk, fixed[0], moving[0], found, step=0.5, shrink=2, within=near)
    except RuntimeError as error:
        raise ValueError(f"alignment to MNI152 failed: {str(error).strip().splitlines()[-1]}") from None
    return found


def _climb(itk: Any, fixed: Any, moving: Any, found: Any, *, step: float, shrink: int, within: Any) -> None:
    """Improve `found`: mean squares of two masks, or mutual information of two brains `within` a mask."""
    method = itk.ImageRegistrationMethod()
    if within is None:
        method.SetMetricAsMeanSquares()
    else:
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricFixedMask(within)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step, minStep=1e-3, numberOfIterations=100, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([float(shrink)])
    method.SetInitialTransform(found, inPlace=True)
    method.Execute(fixed, moving)


def _matrix(itk: Any, transform: Any) -> Float[np.ndarray, "4 4"]:
    """An affine transform as a matrix on points."""
    matrix = np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(tuple(np.eye(3)[axis]))) - origin
    matrix[:3, 3] = origin
    return matrix


def _image(itk: Any, array: Shaped[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]) -> Any:
    """A SimpleITK image of an array in RAS."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise ValueError("the scan's affine is sheared, which SimpleITK cannot represent; resample the scan first")
    left, _, right = np.linalg.svd(direction)
    image = itk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())
    return image


def _array(itk: Any, image: Any) -> Shaped[np.ndarray, "i j k"]:
    return np.ascontiguousarray(itk.GetArrayViewFromImage(image).T)


def _grid(
    shape: tuple[int, ...], affine: Float[np.ndarray, "4 4"], spacing: float
) -> tuple[tuple[int, int, int], Float[np.ndarray, "4 4"]]:
    """The template's box (its RAS axes are straight) at another spacing."""
    sides = [int(np.ceil(side * TEMPLATE_MM / spacing)) for side in shape]
    finer = np.diag([spacing, spacing, spacing, 1.0])
    finer[:3, 3] = affine[:3, 3] + (spacing - TEMPLATE_MM) / 2
    return (sides[0], sides[1], sides[2]), finer


def _overlap(
    itk: Any, target: Any, aligned: Bool[np.ndarray, "i j k"], fixed: Any, brain: Bool[np.ndarray, "a b c"]
) -> float:
    """Dice of the aligned mask and the template's brain, on the template's grid."""
    mask = itk.GetImageFromArray(np.ascontiguousarray(aligned.T).astype(np.float32))
    mask.CopyInformation(target)
    there = _array(itk, itk.Resample(mask, fixed, itk.Transform(), itk.sitkLinear, 0.0)) > 0.5
    return float(2 * (there & brain).sum() / (there.sum() + brain.sum()))
