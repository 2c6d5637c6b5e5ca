"""How many disguised copies the audit finds, and how many pairs of different people it takes for one.

    braindino synthesize --healthy 50 --dementia 0 --glioma 0 --seed 2 --out /tmp/seed2
    braindino synthesize --healthy 190 --dementia 80 --glioma 20 --seed 0 --out /tmp/seed0
    python benchmarks/audit_recall.py /tmp/seed2 --out benchmarks/results/audit_recall.tsv
    python benchmarks/audit_recall.py /tmp/seed0 --planted 0 --out benchmarks/results/audit_strangers.tsv
    python benchmarks/audit_recall.py --scale 10000 --out benchmarks/results/audit_scale.tsv

Of each cohort the T1-weighted scans are the corpus; 50 of them are planted again under other names, once per disguise,
as a test cohort, and the audit itself (`overlaps`) looks for them among all. The brain mask goes through the same
disguise, as it would if both copies had been masked by one tool, or is another one where the disguise says so. Every
pair that the audit names besides a person with their own copy is wrong. Synthetic people of the packaged anatomies are
deformations of two brains, so they resemble each other more than patients do. The defaced copies lose all voxels in
front of and below the brain. `--scale` times the quick look at all pairs of so many pictures of noise, and the close
look at a hundred pairs, in CPU seconds; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from braindino.corpus.audit import overlaps, voxel_hash
from braindino.corpus.near import CANDIDATES, NEAR, _candidates
from braindino.corpus.thumbnail import THUMBNAIL, resemblance, thumbnail
from braindino.layouts.bids import read_bids
from braindino.record import write_table
from braindino.types import Case, Volume
from braindino.volume.brain import extract
from braindino.volume.io import read_case, to_ras

WORKS = 0.75
"""Dice of the built-in extractor's mask with the given one, from which its mask counts as another tool's."""


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
        "resampled and turned by 8 degrees": resampled(volume, 8.0),
        "intensity-rescaled, brain mask 3 mm larger": other_mask(volume, 3.0),
        "intensity-rescaled, brain mask 2 mm smaller": other_mask(volume, -2.0),
        **extracted(volume),
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


def extracted(volume: Volume) -> dict[str, Volume]:
    """Masked by the built-in extractor, where the head has a skull and that finds the brain."""
    try:
        mask = extract(volume.voxels[0], volume.spacing_mm)
    except ValueError:
        return {}
    dice = 2 * (mask & volume.brain_mask).sum() / (mask.sum() + volume.brain_mask.sum())
    return {"brain mask by the built-in extractor": replace(volume, brain_mask=mask)} if dice >= WORKS else {}


def prints(volume: Volume, cohort: str, subject: str) -> dict[str, Any]:
    """What the audit knows of a scan."""
    row = {"cohort": cohort, "subject": subject, "voxel_hash": voxel_hash(volume)}
    return {**row, "picture": thumbnail(volume)}


def audited(mine: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] | None = None) -> pd.DataFrame:
    """`overlaps` of scans as `prints` gives them."""
    tables = [pd.DataFrame(rows).drop(columns="picture") for rows in (mine, others) if rows]
    pictures = [np.stack([row["picture"] for row in rows]) for rows in (mine, others) if rows]
    return overlaps(tables[0], pictures[0], *tables[1:], *pictures[1:])


def measured(folder: Path, copied: int) -> Iterator[dict[str, Any]]:
    """A row per disguise and one for the cohort alone."""
    mine, planted = [], {}
    cases: tuple[Case, ...] = read_bids(folder)
    spread = set(np.linspace(0, len(cases) - 1, min(copied, len(cases))).astype(int).tolist())
    for number, case in enumerate(cases):
        volume = read_case([scan for scan in case.scans if scan.contrast == "T1w"])
        mine.append(prints(volume, "mine", case.subject))
        for name, copy in copies(volume).items() if number in spread else ():
            planted.setdefault(name, []).append(prints(copy, "copies", f"{number:04d}"))
    for name, others in planted.items():
        found = audited(mine, others)
        own = {(f"mine/{mine[int(o['subject'])]['subject']}", f"copies/{o['subject']}") for o in others}
        named = set(zip(found["subject"], found["other"], strict=True))
        likeness = [resemblance(mine[int(o["subject"])]["picture"], o["picture"]) for o in others]
        yield {
            "cohort": folder.name,
            "disguise": name,
            "planted": len(others),
            "found": len(own & named),
            "recall": len(own & named) / len(own),
            "same_voxels": int((found["evidence"] == "same voxels").sum()),
            "resemblance_least": min(likeness),
            "resemblance_median": float(np.median(likeness)),
            "pairs_of_strangers": len(others) * (len(mine) - 1),
            "wrong": len(named - own),
        }
    began = time.process_time()
    wrong = len(audited(mine))
    seconds, pairs = time.process_time() - began, len(mine) * (len(mine) - 1) // 2
    yield {"cohort": folder.name, "disguise": "none", "pairs_of_strangers": pairs, "wrong": wrong, "cpu_s": seconds}


def scaled(count: int) -> dict[str, Any]:
    """CPU seconds of the two looks at `count` scans of as many people."""
    rng = np.random.default_rng(0)
    pictures = np.zeros((count, *THUMBNAIL), np.uint8)
    for picture in pictures:
        picture[4:-4, 4:-4, 4:-4] = rng.integers(1, 256, [n - 8 for n in THUMBNAIL])
    names = [f"{n:06d}" for n in range(count)]
    began = time.process_time()
    list(_candidates(names, pictures, names, pictures))
    quick = time.process_time() - began
    began = time.process_time()
    for number in range(100):
        resemblance(pictures[number], pictures[-1 - number])
    each = (time.process_time() - began) / 100
    return {"scans": count, "quick_cpu_s": quick, "close_cpu_s_at_most": each * CANDIDATES * count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="*")
    parser.add_argument("--planted", type=int, default=50)
    parser.add_argument("--scale", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [scaled(given.scale)] if given.scale else []
    for folder in given.cohorts:
        for row in measured(folder, given.planted):
            rows.append(row)
            print(row, flush=True)
    if given.out:
        write_table(given.out, pd.DataFrame(rows))
    print(f"at a threshold of {NEAR}")


if __name__ == "__main__":
    main()
