"""A picture of every perturbation on a real head, how far it moves the image, and how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/perturbation_picture.py --out docs/perturbations.png \
        --table benchmarks/results/perturbations.tsv

The MNI152 template that comes with nilearn (brain only, 1 mm): one axial slice (coronal for thick slices) as it is
and at severities 1, 3 and 5, grey from 0 to the 99.5th percentile of each picture (an encoder normalises each scan
too). The table holds, for every severity, the correlation with the unperturbed template over its brain mask, the root
mean square change after z-scoring both there, and the seconds that it took on one core.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from braindino import catalog
from braindino.record import write_bytes, write_table
from braindino.synthesis.packaged import packaged_volumes
from braindino.types import Volume
from braindino.volume.brain import brain_mask
from braindino.volume.io import read_volume

SHOWN = (0, 1, 3, 5)
SLICE_MM = 8.0
SIDE = 186


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    volume = read_volume(packaged_volumes()["mni152_T1w.nii.gz"])
    names = catalog.names("perturbations")
    pictures, rows = {}, []
    for name in names:
        for severity in range(6):
            begun = time.process_time()
            after = catalog.load("perturbations", name).apply(volume, severity, options.seed)
            rows.append(row(name, severity, volume, after) | {"seconds": time.process_time() - begun})
            if severity in SHOWN:
                pictures[name, severity] = slice_of(after, name)
    write_table(options.table, pd.DataFrame(rows))
    write_bytes(options.out, drawn(pictures, names))


def row(name: str, severity: int, volume: Volume, after: Volume) -> dict[str, object]:
    found = {
        "perturbation": name,
        "severity": severity,
        "value": catalog.load("perturbations", name).SEVERITIES[severity],
    }
    if after.voxels.shape != volume.voxels.shape:
        return found | {"correlation": np.nan, "change_sd": np.nan}
    mask = brain_mask(volume)[0]
    x, y = ((v.voxels[0][mask] - v.voxels[0][mask].mean()) / v.voxels[0][mask].std() for v in (volume, after))
    return found | {"correlation": float((x * y).mean()), "change_sd": float(np.sqrt(((x - y) ** 2).mean()))}


def slice_of(volume: Volume, name: str) -> np.ndarray:
    """One slice, cut to the square around its centre: axial, but coronal where slices are thick."""
    axis = 1 if name == "thick_slices" else 2
    index = round((SLICE_MM - volume.affine[axis, 3]) / volume.affine[axis, axis])
    image = np.take(volume.voxels[0], min(index, volume.voxels.shape[axis + 1] - 1), axis).T[::-1]
    image = np.pad(image, SIDE // 2)
    top, left = ((n - SIDE) // 2 for n in image.shape)
    image = image[top : top + SIDE, left : left + SIDE]
    return np.clip(image / max(float(np.percentile(image, 99.5)), 1e-9), 0, 1)


def drawn(pictures: dict[tuple[str, int], np.ndarray], names: tuple[str, ...]) -> bytes:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(len(SHOWN), len(names), figsize=(1.4 * len(names), 6.3))
    for column, name in zip(grid.T, names, strict=True):
        for axes, severity in zip(column, SHOWN, strict=True):
            axes.imshow(pictures[name, severity], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            value = catalog.load("perturbations", name).SEVERITIES[severity]
            axes.set_xlabel(value if isinstance(value, str) else f"{value:g}", fontsize=8, labelpad=1)
        column[0].set_title(name.replace("_", " "), fontsize=9)
    for axes, severity in zip(grid[:, 0], SHOWN, strict=True):
        axes.set_ylabel(f"severity {severity}", fontsize=9)
    figure.subplots_adjust(0.02, 0.03, 0.998, 0.96, wspace=0.03, hspace=0.12)
    written = io.BytesIO()
    figure.savefig(written, dpi=110, metadata={"Software": None})
    return written.getvalue()


if __name__ == "__main__":
    main()
