"""Patch similarity on one slice: part of `analyze`, for encoders that give patch tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy import ndimage

from braindino.record import write_array, write_table
from braindino.stats.representation import patch_similarity
from braindino.types import Case, Encoder, Tokens
from braindino.volume.io import read_case
from braindino.volume.preprocess import to_slices

BRIGHT_CSF, BRIGHT_WHITE = "T2w", "T1w"
"""Contrasts in which CSF, and white matter, is the brightest tissue."""


def write_similarity(encoders: Mapping[str, Encoder], case: Case, out: Path) -> None:
    """Similarity of three reference patches (tumour, CSF, white matter) with all patches of one slice.

    The slice is the one with the largest lesion; the encoders must share one recipe. Written: `slice.npy` (the last
    contrast), `points.tsv` (name, row, column in pixels) and `<encoder>.npy` (point, row, column), the cosine with the
    reference patch, scaled to [0, 1] per map (BrainDINO protocol, section 11).

    Raises:
        ValueError: a case without a label map, or an encoder without patch tokens.
    """
    import pandas as pd

    volume = read_case(case.scans)
    points: dict[str, tuple[int, int]] = {}
    for name, encoder in encoders.items():
        tokens = encoder.tokens(volume, patches=True)
        if len(tokens.grid) != 2:
            raise ValueError(f"encoder {name!r} takes whole volumes; patch similarity is drawn on slices")
        number, labels = _slice_with_lesion(tokens)
        channels = len(tokens.prepared.voxels) // len(tokens.prepared.contrasts)
        slices = to_slices(tokens.prepared.voxels)[number, channels // 2 :: channels]
        points = points or _points(tokens, slices, labels, number)
        write_array(out / f"{name}.npy", _maps(tokens, number, points))
        write_array(out / "slice.npy", slices[-1])
    rows = [(name, row, column) for name, (row, column) in points.items()]
    write_table(out / "points.tsv", pd.DataFrame(rows, columns=["name", "row", "column"]))


def _slice_with_lesion(tokens: Tokens) -> tuple[int, Int[np.ndarray, "row column"]]:
    if tokens.prepared.label_map is None or not tokens.prepared.label_map.any():
        raise ValueError("patch similarity needs a case whose label map shows a lesion")
    labels = to_slices(tokens.prepared.label_map[None])[:, 0]
    number = int(np.argmax((labels > 0).sum(axis=(1, 2))))
    return number, labels[number]


def _points(
    tokens: Tokens,
    slices: Float32[np.ndarray, "contrast row column"],
    labels: Int[np.ndarray, "row column"],
    number: int,
) -> dict[str, tuple[int, int]]:
    """The deepest pixel of the lesion, and the brightest smooth places of CSF and of white matter away from it."""
    assert tokens.prepared.brain_mask is not None
    brain = to_slices(tokens.prepared.brain_mask[None])[number, 0]
    away = ndimage.binary_erosion(brain, iterations=3) & ~ndimage.binary_dilation(labels > 0, iterations=4)
    by_contrast = dict(zip(tokens.prepared.contrasts, slices, strict=True))
    points = {"tumour": _deepest(labels > 0)}
    for name, contrast in (("CSF", BRIGHT_CSF), ("white matter", BRIGHT_WHITE)):
        if contrast in by_contrast and away.any():
            smooth = ndimage.gaussian_filter(by_contrast[contrast], 1.5)
            points[name] = _position(np.where(away, smooth, -np.inf))
    return points


def _maps(
    tokens: Tokens, number: int, points: Mapping[str, tuple[int, int]]
) -> Float32[np.ndarray, "point row column"]:
    """One map per reference point, from the patch tokens of the last contrast."""
    if tokens.patch is None:
        raise ValueError("patch similarity needs an encoder with patch tokens")
    per_contrast = len(tokens.patch) // len(tokens.prepared.contrasts)
    patches = tokens.patch[len(tokens.patch) - per_contrast + number]
    rows, columns = tokens.grid
    size = tokens.prepared.voxels.shape[1] // columns
    chosen = [(row // size) * columns + column // size for row, column in points.values()]
    return np.stack([patch_similarity(patches, index) for index in chosen]).reshape(-1, rows, columns)


def _deepest(region: Bool[np.ndarray, "row column"]) -> tuple[int, int]:
    return _position(ndimage.distance_transform_edt(region))


def _position(score: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(row), int(column)
