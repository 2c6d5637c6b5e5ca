"""What the scans of a corpus are like: voxel sizes, orientations, brain volumes, image quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from braindino.reporting.figures import DASHES, PALETTE, Figure, canvas, curves, shortened, style
from braindino.reporting.page import counted

if TYPE_CHECKING:
    import pandas as pd

AXES = {"spacing_r_mm": "Right", "spacing_a_mm": "Anterior", "spacing_s_mm": "Superior"}
MOST_ORIENTATIONS = 8
BINS = 24


def corpus_scans_figure(scans: pd.DataFrame, synthetic: bool = False) -> Figure:
    """Four panels over the rows of `scans.tsv`.

    Args:
        scans: columns `spacing_*_mm`, `axes`, `brain_ml`, `snr`, `cjv`, `cohort`.
        synthetic: the corpus holds synthetic subjects.
    """
    with style():
        drawn = canvas(9.0, 5.4, synthetic=synthetic)
        (spacing, orientation), (volume, quality) = drawn.subplots(2, 2)
        _spacing(spacing, scans)
        _orientations(orientation, scans)
        volume.hist(scans["brain_ml"], bins=BINS, color=PALETTE[0])
        volume.set(title="Brain mask", xlabel="Volume (ml)", ylabel="Scans")
        _quality(quality, scans)
    sides = scans[list(AXES)].to_numpy(float)
    thick = int((sides.max(axis=1) > 2 * sides.min(axis=1)).sum())
    return curves(
        drawn,
        "corpus-scans",
        "The scans of the corpus",
        "Voxel edges along each axis, axis codes of the files before they were turned to RAS, brain volume, "
        "and two measures of quality (SNR: deviation inside the brain over noise, higher is better; CJV: overlap of "
        f"dark and bright tissue, lower is better). {counted(len(scans), 'scan')}, {thick} with one voxel edge more "
        "than twice another.",
        "Histograms of voxel edges and brain volumes, bars of orientations, scatter of SNR and CJV over all scans.",
    )


def _spacing(axes: Any, scans: pd.DataFrame) -> None:
    values = scans[list(AXES)].to_numpy(float)
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low - 0.1, high + 0.1, BINS + 1)
    for column, colour, dash in zip(AXES, PALETTE, DASHES, strict=False):
        counts, _ = np.histogram(scans[column], bins=edges)
        axes.stairs(counts, edges, color=colour, linestyle=dash, linewidth=1.6, label=AXES[column])
    axes.set(title="Voxel edges", xlabel="mm", ylabel="Scans")
    axes.legend(loc="best")


def _orientations(axes: Any, scans: pd.DataFrame) -> None:
    counts = scans["axes"].value_counts()
    shown = counts.iloc[:MOST_ORIENTATIONS]
    names = [shortened(str(name), 6) for name in shown.index]
    sizes = [int(count) for count in shown]
    if len(counts) > len(shown):
        names, sizes = [*names, "others"], [*sizes, int(counts.iloc[MOST_ORIENTATIONS:].sum())]
    axes.barh(range(len(names)), sizes, color=PALETTE[2])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(title="Orientation in the file", xlabel="Scans")


def _quality(axes: Any, scans: pd.DataFrame) -> None:
    for (cohort, own), colour, marker in zip(scans.groupby("cohort"), PALETTE * 4, "osD^vP" * 4, strict=False):
        name = shortened(str(cohort), 24)
        axes.scatter(own["snr"], own["cjv"], s=12, color=colour, marker=marker, alpha=0.6, linewidths=0, label=name)
    axes.set(title="Quality", xlabel="SNR", ylabel="CJV")
    if scans["cohort"].nunique() <= len(PALETTE):
        axes.legend(loc="best")
