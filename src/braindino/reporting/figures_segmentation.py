"""Segmentations: truth and the predictions of every model on the same test cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from braindino.reporting.figures import Figure, canvas, display_range, scans, shortened, slug, style
from braindino.reporting.figures_scans import SIDES, head_box, label_colour, legend, paint, plane
from braindino.reporting.names import task_label

if TYPE_CHECKING:
    from braindino.types import Volume


@dataclass(frozen=True)
class Segmentation:
    """One test case with true labels and each model's, on the grid of its scan."""

    case: str
    rank: str
    """best, median or worst."""
    volume: Volume
    predicted: Mapping[str, Int[np.ndarray, "i j k"]]
    """Model to its label map."""
    dice: Mapping[str, float]
    """Model to mean Dice."""


def segmentation_figure(
    task: str, cases: Sequence[Segmentation], ranked_by: str, of: int, names: Mapping[int, str], synthetic: bool
) -> Figure:
    """Scan, truth and every model's prediction on the slice with most of the true lesion, for a few cases.

    Args:
        task: name.
        cases: with label maps, all of the same models.
        ranked_by: the model by whose Dice the cases were chosen.
        of: how many cases they were chosen from.
        names: of the labels, where known.
        synthetic: subjects are synthetic.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    models = list(cases[0].predicted)
    with style(dark=True):
        drawn = canvas(2.3 * (2 + len(models)), 2.75 * len(cases) + 0.3, synthetic=synthetic)
        grid = drawn.subplots(len(cases), 2 + len(models), squeeze=False)
        for row, case in zip(grid, cases, strict=True):
            _case(row, case, models)
        every = np.unique(np.concatenate([_seen(case) for case in cases]))
        key: list[Any] = [
            Patch(color=label_colour(int(v)), label=names.get(int(v), f"label {v}")) for v in every if v > 0
        ]
        key.append(Line2D([], [], color="white", label="outline of the true lesion"))
        drawn.legend(handles=key, loc="outside lower left", ncols=len(key), fontsize=8, handlelength=1.2)
    return scans(
        drawn,
        f"segmentation-{slug(task)}",
        f"{task_label(task)}: {', '.join(case.rank for case in cases)} of {of} test cases, truth and prediction.",
        f"Cases are ranked by the Dice of {ranked_by}, not picked by eye. Axial slice with most of the true lesion, on "
        f"{cases[0].volume.contrasts[-1]}. {legend(every, names)} The white line in the predictions is the outline of "
        f"the true lesion. Dice is the mean over the regions of the whole volume, not of this slice. {SIDES}",
        f"True and predicted segmentation of {len(cases)} test cases by {', '.join(models)}.",
    )


def _case(row: Any, case: Segmentation, models: Sequence[str]) -> None:
    from matplotlib.patheffects import Stroke

    truth = case.volume.label_map
    assert truth is not None
    number = int(np.argmax((truth > 0).sum(axis=(0, 1))))
    low, high = display_range(case.volume.voxels[-1])
    box = (*head_box(case.volume.voxels[-1][:, :, number], low, high), slice(number, number + 1))
    image, spacing = case.volume.voxels[-1][box], case.volume.spacing_mm
    extent = (0.0, image.shape[0] * spacing[0], 0.0, image.shape[1] * spacing[1])
    titles = [f"{case.rank}: {shortened(case.case)}", "truth", *(f"{m}: Dice {case.dice[m]:.2f}" for m in models)]
    for axes, labels, title in zip(row, (None, truth, *(case.predicted[m] for m in models)), titles, strict=True):
        axes.set_axis_off()
        axes.imshow(plane(image, 2, 0), cmap="gray", vmin=low, vmax=high, extent=extent)
        axes.set_title(title, fontsize=9, fontweight="normal")
        if labels is not None:
            paint(axes, plane(labels[box], 2, 0), extent)
        if labels is not None and labels is not truth:
            lesion = plane(truth[box] > 0, 2, 0).astype(float)
            line = axes.contour(lesion, levels=[0.5], colors=["white"], linewidths=1.0, extent=extent, origin="upper")
            line.set_path_effects([Stroke(linewidth=2.4, foreground="black"), Stroke(linewidth=1.0)])
    row[0].text(0.03, 0.97, "L", transform=row[0].transAxes, va="top")


def _seen(case: Segmentation) -> np.ndarray:
    maps = [case.volume.label_map, *case.predicted.values()]
    return np.unique(np.concatenate([np.unique(one) for one in maps if one is not None]))
