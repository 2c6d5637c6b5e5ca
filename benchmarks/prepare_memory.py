"""Peak memory of one `prepare` process on heads of 256 x 256 x 256 voxels of 1 mm.

    python benchmarks/prepare_memory.py

The heads are the packaged one, resampled. A fresh process per row makes one shard (as every worker of `prepare` does),
and its high-water mark of resident memory (VmHWM, which includes Python and the libraries) is read at its end. The
table is also written to benchmarks/results/prepare_memory.tsv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import braindino
from braindino.volume.io import read_labels, read_volume

SIDE = 256
RESULT = Path(__file__).parent / "results" / "prepare_memory.tsv"
ROWS = {
    "int16, mask given": ("int16", True, 1),
    "float32, mask given": ("float32", True, 1),
    "float64, mask given": ("float64", True, 1),
    "int16, built-in extractor": ("int16", False, 1),
    "int16, mask given, 16 scans": ("int16", True, 16),
}
WORKER = """
import sys
from pathlib import Path
from braindino.corpus.build import _build_shard
from braindino.types import Scan
from braindino.volume.recipe import Recipe

image, mask, out, count = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
status = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = status()
scans = tuple(Scan("b", f"{n}", "T1w", image, brain_mask=mask if mask.name else None) for n in range(count))
_build_shard(out, 0, scans, Recipe(), None)
left_out = __import__("json").loads(__import__("numpy").load(out / "parts" / "00000.npz")["text"].tobytes())
assert not left_out["quarantine"], left_out["quarantine"]
print(before, status())
"""


def write_head(folder: Path) -> Path:
    """The packaged head and its brain mask on a grid of `SIDE`^3 voxels of 1 mm; the mask's path."""
    data = Path(braindino.__file__).parent / "synthesis" / "data"
    head = read_volume(data / "head_T1w.nii.gz")
    brain = read_labels(data / "head_brain.nii.gz", head) > 0
    image, mask = (_fitted(ndimage.zoom(a, head.spacing_mm, order=1)) for a in (head.voxels[0], brain.astype("f4")))
    image = 1000 * image / image.max() + np.random.default_rng(0).normal(0, 10, image.shape)
    for kind in ("int16", "float32", "float64"):
        nib.save(nib.Nifti1Image(image.astype(kind), np.eye(4)), folder / f"{kind}.nii.gz")
    nib.save(nib.Nifti1Image((mask > 0.5).astype(np.uint8), np.eye(4)), folder / "mask.nii.gz")
    return folder / "mask.nii.gz"


def _fitted(array: np.ndarray) -> np.ndarray:
    cut = array[tuple(slice(max(0, n - SIDE) // 2, max(0, n - SIDE) // 2 + SIDE) for n in array.shape)]
    return np.pad(cut, [((SIDE - n) // 2, (SIDE - n + 1) // 2) for n in cut.shape])


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lines = ["case\tMiB after imports\tMiB at most"]
    with tempfile.TemporaryDirectory() as place:
        mask = write_head(Path(place))
        for name, (kind, masked, count) in ROWS.items():
            out = Path(place) / name
            out.mkdir()
            words = [Path(place) / f"{kind}.nii.gz", mask if masked else "", out, count]
            done = subprocess.run(
                [sys.executable, "-c", WORKER, *map(str, words)], capture_output=True, text=True, check=True
            )
            before, most = (int(kib) / 1024 for kib in done.stdout.split())
            lines.append(f"{name}\t{before:.0f}\t{most:.0f}")
            print(lines[-1])
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
