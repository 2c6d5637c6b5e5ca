"""A T1w volume from file to slices: this package against MONAI's and TorchIO's transforms, on one thread.

    pip install 'monai==1.6.1' 'torchio==1.2.1'
    OMP_NUM_THREADS=1 python benchmarks/prepare_volume.py --rounds 10

Every arm does the same steps: read image and brain mask (.nii.gz), reorient to RAS, resample to 1 mm (linear, mask
nearest), clip at percentiles 0.5 and 99.5 inside the mask, z-score inside it, crop to the brain in 224 x 224 px, cut
128 axial slices. Only ours checks the CRC of the files, takes the measures of quality, and antialiases. The image is
made from the packaged head: 256 x 256 x 170 voxels of 0.94 x 0.94 x 1.2 mm, stored sagittal, int16. Arms run in turn,
in an order that changes from round to round; ours runs twice per round (A/A). Printed: median seconds, ratio of
medians to ours with the interval of the ratios per round, and the share of our steps; the tables go to
benchmarks/results/prepare_volume.md too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import braindino
from braindino.types import Scan
from braindino.volume import preprocess as steps
from braindino.volume.files import open_image
from braindino.volume.io import read_case, read_labels, read_volume
from braindino.volume.itk import align, correct_bias
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.quality import quality
from braindino.volume.recipe import Recipe
from braindino.volume.resample import bounding_box, resample, within

RESULT = Path(__file__).parent / "results" / "prepare_volume.md"
RECIPE = Recipe()
SPACING = (1.2, 0.9375, 0.9375)


def make_scan(folder):
    """Image and brain mask of the packaged head at about 1 mm, sagittal planes first, as scanners store them."""
    data = Path(braindino.__file__).parent / "synthesis" / "data"
    head = read_volume(data / "head_T1w.nii.gz")
    brain = read_labels(data / "head_brain.nii.gz", head) > 0
    zoom = np.array(head.spacing_mm) / SPACING
    image = ndimage.zoom(head.voxels[0], zoom, order=1)
    mask = ndimage.zoom(brain.astype(np.float32), zoom, order=1) > 0.5
    image = 1000 * image / image.max() + np.random.default_rng(0).normal(0, 10, image.shape)
    box = [(170, image.shape[0]), (256, image.shape[1]), (256, image.shape[2])]
    crop = tuple(slice(max(0, (have - want) // 2), max(0, (have - want) // 2) + want) for want, have in box)
    pad = [((want - min(want, have)) // 2, (want - min(want, have) + 1) // 2) for want, have in box]
    paths = []
    for name, array in (("image", np.clip(image, 0, None).astype(np.int16)), ("mask", mask.astype(np.uint8))):
        stored = nib.Nifti1Image(np.pad(array[crop], pad), np.diag([*SPACING, 1.0]))
        stored = stored.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        stored.set_qform(stored.affine, 1)
        stored.set_sform(stored.affine, 1)
        paths.append(folder / f"{name}.nii.gz")
        nib.save(stored, paths[-1])
    return paths


def ours(image, mask):
    scan = Scan("b", "s", "T1w", image, brain_mask=mask)
    return to_slices(preprocess(read_case([scan]), RECIPE).voxels)[:, 0]


def monai_arm():
    from monai import transforms as t

    keys = ["image", "mask"]

    def clip_inside(data):
        inside = data["image"][data["mask"] > 0]
        low, high = np.percentile(inside.numpy(), RECIPE.clip_percent)
        data["image"] = data["image"].clamp(low, high) * (data["mask"] > 0)
        return data

    pipeline = t.Compose(
        [
            t.LoadImaged(keys),
            t.EnsureChannelFirstd(keys),
            t.Orientationd(keys, axcodes="RAS"),
            t.Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            clip_inside,
            t.NormalizeIntensityd("image", nonzero=True),
            t.CropForegroundd(keys, source_key="mask", allow_smaller=True),
            t.ResizeWithPadOrCropd(keys, (RECIPE.size_px, RECIPE.size_px, -1)),
        ]
    )

    def run(image, mask):
        voxels = pipeline({"image": str(image), "mask": str(mask)})["image"].numpy()[0]
        return cut(voxels)

    return run


def torchio_arm():
    import torchio as tio

    pipeline = tio.Compose(
        [
            tio.ToCanonical(),
            tio.Resample(1.0),
            tio.RescaleIntensity(percentiles=RECIPE.clip_percent, masking_method="mask"),
            tio.ZNormalization(masking_method="mask"),
            tio.Mask("mask", outside_value=RECIPE.background),
            tio.CropOrPad((RECIPE.size_px, RECIPE.size_px, 180), mask_name="mask"),
        ]
    )

    def run(image, mask):
        subject = tio.Subject(image=tio.ScalarImage(image), mask=tio.LabelMap(mask))
        done = pipeline(subject)
        brain = np.flatnonzero(done["mask"].numpy()[0].any(axis=(0, 1)))
        return cut(done["image"].numpy()[0][:, :, brain[0] : brain[-1] + 1])

    return run


def cut(voxels):
    """128 slices over the height, with the recipe's margins."""
    last = voxels.shape[2] - 1
    places = np.linspace(RECIPE.margin * last, (1 - RECIPE.margin) * last, RECIPE.slices)
    return np.ascontiguousarray(voxels[:, ::-1, np.rint(places).astype(int)].transpose(2, 1, 0))


def our_steps(image, mask):
    """CPU seconds of each of our steps, one after the other."""
    scan = Scan("b", "s", "T1w", image, brain_mask=mask)
    clock = [time.process_time()]

    def lap(done):
        clock.append(time.process_time())
        return done

    lap([open_image(path) for path in (image, mask)])
    volume = lap(read_case([scan]))
    lap(quality(volume, volume.brain_mask))
    brain = bounding_box(volume.brain_mask)
    scaled = lap(steps._normalise(volume.voxels[0][brain], volume.brain_mask[brain], RECIPE))
    centres = steps._target_grid(brain, volume.spacing_mm, RECIPE, False)
    matrices, target = within(brain, steps._matrices(centres, volume.brain_mask.shape, volume.spacing_mm, RECIPE, 0))
    sliced = steps._empty(1, tuple(map(len, centres)), RECIPE.background)
    sliced[0][target] += resample(scaled, matrices)
    lap(resample(volume.brain_mask[brain], matrices) > 0.5)
    lap(to_slices(sliced))
    unpack, read, *rest = np.diff(clock)
    return dict(
        zip(
            ("unpack and check", "scale, orient", "quality", "clip, z-score", "resample", "cut"),
            (unpack, read - unpack, *rest),
            strict=True,
        )
    )


def corrections(image, mask):
    """CPU seconds of N4 and of the alignment to the template, which no arm does."""
    volume = read_case([Scan("b", "s", "T1w", image, brain_mask=mask)])
    seconds = {}
    for name, step in (("N4", correct_bias), ("alignment to MNI152", align)):
        start = time.process_time()
        step(volume, volume.brain_mask)
        seconds[name] = time.process_time() - start
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peers", nargs="*", default=["MONAI", "TorchIO"], choices=["MONAI", "TorchIO"])
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: all arms run on one thread")
    import torch

    torch.set_num_threads(1)
    makers = {"MONAI": monai_arm, "TorchIO": torchio_arm}
    arms = {"ours": ours, "ours again": ours} | {name: makers[name]() for name in options.peers}
    seconds = {name: [] for name in arms}
    shares = []
    with tempfile.TemporaryDirectory() as place:
        image, mask = make_scan(Path(place))
        print(f"{image.stat().st_size / 1e6:.1f} MB packed, {nib.load(image).shape} voxels, {options.rounds} rounds")
        reference = ours(image, mask)
        for name, arm in arms.items():
            found = arm(image, mask)
            middle = slice(len(reference) // 2 - 5, len(reference) // 2 + 5)
            inside = reference[middle] > RECIPE.background
            r = np.corrcoef(reference[middle][inside], found[middle][inside])[0, 1]
            print(f"{name}: {found.shape}, correlation of the middle slices with ours {r:.3f}")
        apart = corrections(image, mask)
        for number in range(options.rounds):
            order = list(np.roll(list(arms), number))
            for name in order:
                start = time.process_time()
                arms[name](image, mask)
                seconds[name].append(time.process_time() - start)
            shares.append(our_steps(image, mask))
    base = np.array(seconds["ours"])
    lines = ["| arm | median CPU s | ratio to ours | rounds, min to max |", "|---|---|---|---|"]
    for name, values in seconds.items():
        ratio = np.array(values) / base
        spread = f"{ratio.min():.2f} to {ratio.max():.2f}"
        lines.append(f"| {name} | {np.median(values):.3f} | {np.median(ratio):.2f} | {spread} |")
    lines += ["", "| our step | median CPU s | share |", "|---|---|---|"]
    medians = {name: float(np.median([row[name] for row in shares])) for name in shares[0]}
    lines += [f"| {name} | {value:.3f} | {value / sum(medians.values()):.0%} |" for name, value in medians.items()]
    lines += ["", "| apart | CPU s |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in apart.items())]
    print("\n" + "\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
