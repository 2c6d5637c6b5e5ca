"""How many disguised copies the audit finds, and how many pairs of different people it takes for one.

    braindino synthesize --out /tmp/people --healthy 40 --dementia 0 --glioma 0
    OMP_NUM_THREADS=1 python benchmarks/audit_recall.py /tmp/people

Each T1-weighted scan of the cohort is planted once per disguise; the brain mask goes through the same disguise, as it
would if both copies had been masked by one tool. Found means: "same voxels", or thumbnails that correlate by `NEAR` or
more. Synthetic people are deformations of two anatomies, so they resemble each other more than patients do: the false
positives are those of a hard case. The defaced copies lose all voxels in front of and below the brain.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from braindino.volume.bids import read_bids
from scipy import ndimage

from braindino.corpus.audit import NEAR, thumbnail, voxel_hash
from braindino.types import Volume
from braindino.volume.io import read_case, to_ras


def copies(volume: Volume) -> dict[str, Volume]:
    """The disguises by name."""
    return {
        "exact": volume,
        "reoriented": reoriented(volume),
        "intensity-rescaled (3 x + 20)": replace(volume, voxels=volume.voxels * 3 + 20),
        "intensity-rescaled (gamma 0.7)": gamma(volume),
        "cropped (10 % of the brain cut off below)": cropped(volume),
        "defaced": defaced(volume),
        "resampled (1.3 x 1.2 x 1.5 coarser)": resampled(volume, 0.0),
        "resampled and turned by 4 degrees": resampled(volume, 4.0),
        "intensity-rescaled, brain mask 3 mm larger": other_mask(volume, 3.0),
        "intensity-rescaled, brain mask 2 mm smaller": other_mask(volume, -2.0),
    }


def reoriented(volume: Volume) -> Volume:
    """Stored as LPI with swapped axes, and read again."""
    turn = np.array([[0, -1, 0, volume.voxels.shape[2] - 1], [-1, 0, 0, volume.voxels.shape[1] - 1], [0, 0, 1, 0]])
    affine = volume.affine @ np.vstack([turn, [0, 0, 0, 1]])
    image, new, _ = to_ras(np.ascontiguousarray(volume.voxels[0][::-1, ::-1].transpose(1, 0, 2)), affine)
    mask, _, _ = to_ras(np.ascontiguousarray(volume.brain_mask[::-1, ::-1].transpose(1, 0, 2)), affine)
    return replace(volume, voxels=image[None], brain_mask=mask, affine=new)


def gamma(volume: Volume) -> Volume:
    low, high = volume.voxels.min(), volume.voxels.max()
    return replace(volume, voxels=((volume.voxels - low) / (high - low)) ** np.float32(0.7))


def cropped(volume: Volume) -> Volume:
    i, j, k = ndimage.find_objects(volume.brain_mask.astype(int))[0]
    k = slice(k.start + (k.stop - k.start) // 10, k.stop)
    voxels = np.ascontiguousarray(volume.voxels[:, i, j, k])
    return replace(volume, voxels=voxels, brain_mask=np.ascontiguousarray(volume.brain_mask[i, j, k]))


def defaced(volume: Volume) -> Volume:
    _, j, k = ndimage.find_objects(volume.brain_mask.astype(int))[0]
    voxels = volume.voxels.copy()
    face = np.s_[:, (j.start + j.stop) // 2 :, : k.start + (k.stop - k.start) // 4]
    voxels[0][face] *= volume.brain_mask[face]
    voxels[:, :, j.stop :] = 0
    return replace(volume, voxels=voxels)


def resampled(volume: Volume, degrees: float) -> Volume:
    image, angle = volume.voxels[0], np.deg2rad(degrees)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    coarser = np.array([1.3, 1.2, 1.5])
    shape = tuple(int(n / c) for n, c in zip(image.shape, coarser, strict=True))
    matrix = turn @ np.diag(coarser)
    shift = (np.array(image.shape) - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2) + 0.4
    voxels = ndimage.affine_transform(image, matrix, shift, shape, order=1)
    mask = ndimage.affine_transform(volume.brain_mask.astype(np.float32), matrix, shift, shape, order=1) > 0.5
    affine = volume.affine @ np.diag([*coarser, 1.0])
    return replace(volume, voxels=voxels[None].astype(np.float32), brain_mask=mask, affine=affine)


def other_mask(volume: Volume, millimetres: float) -> Volume:
    mask = volume.brain_mask
    outside = ndimage.distance_transform_edt(~mask, sampling=volume.spacing_mm)
    inside = ndimage.distance_transform_edt(mask, sampling=volume.spacing_mm)
    mask = outside <= millimetres if millimetres > 0 else inside > -millimetres
    return replace(volume, voxels=volume.voxels * 3 + 20, brain_mask=mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    cases = read_bids(parser.parse_args().cohort)
    hashes, pictures, likeness, same = [], [], {}, {}
    for case in cases:
        volume = read_case([scan for scan in case.scans if scan.contrast == "T1w"])
        hashes.append(voxel_hash(volume))
        pictures.append(thumbnail(volume).ravel().astype(np.float32))
        for name, copy in copies(volume).items():
            likeness.setdefault(name, []).append(float(thumbnail(copy).ravel().astype(np.float32) @ pictures[-1]))
            same.setdefault(name, []).append(voxel_hash(copy) == hashes[-1])
    print("| disguise | planted | same voxels | found in all | similarity: least | median |\n|---|---|---|---|---|---|")
    for name, values in likeness.items():
        found = np.array(same[name]) | (np.array(values) >= NEAR)
        told = f"{sum(same[name])} | {found.sum()} ({found.mean():.0%})"
        print(f"| {name} | {len(values)} | {told} | {min(values):.3f} | {np.median(values):.3f} |")
    pairs = (np.stack(pictures) @ np.stack(pictures).T)[np.triu_indices(len(pictures), 1)]
    wrong = int((pairs >= NEAR).sum())
    print(
        f"\nDifferent people: {len(pairs)} pairs of {len(pictures)}, {wrong} taken for one ({wrong / len(pairs):.2%}) "
        f"at a threshold of {NEAR}; similarity at most {pairs.max():.3f}, median {np.median(pairs):.3f}."
    )


if __name__ == "__main__":
    main()
