"""Pictures of scans: slices of a corpus, planes with outlines, patch similarity, segmentations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from braindino.reporting.figures import Figure, canvas, display_range, scans, slug, style

if TYPE_CHECKING:
    from braindino.corpus.shards import Corpus
    from braindino.types import Volume

OUTLINE = "#F0E442"
"""Brain-mask contours: Okabe and Ito's yellow, used for nothing else."""
LABELS = ("#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#0072B2")
TILES, TILE_COLUMNS = 24, 8
SIDES = "The left of a picture is the subject's left."


@dataclass(frozen=True)
class Segmentation:
    """One test case with true and predicted labels on the grid of its scan."""

    case: str
    rank: str
    """best, median or worst."""
    dice: float
    volume: Volume
    predicted: Int[np.ndarray, "i j k"]


def mosaic_figure(corpus: Corpus, seed: int = 0) -> Figure:
    """Random slices of a corpus, one draw from `seed`, sorted by cohort and contrast."""
    drawn_rows = np.random.default_rng(seed).permutation(len(corpus))[:TILES]
    index = corpus.index.iloc[np.sort(drawn_rows)].sort_values(["cohort", "contrast"], kind="stable")
    low, high = corpus.recipe.background, 2.5
    with style(dark=True):
        rows = math.ceil(len(index) / TILE_COLUMNS)
        drawn = canvas(10.0, 1.5 * rows)
        grid = drawn.subplots(rows, TILE_COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, place, row in zip(grid.flat, index.index, index.itertuples(), strict=False):
            axes.imshow(corpus.read(int(place)), cmap="gray", vmin=low, vmax=high)
            axes.set_title(f"{row.cohort}\n{row.contrast}", fontsize=7.5, fontweight="normal")
        return scans(
            drawn,
            "corpus-slices",
            f"{len(index)} random slices of the corpus.",
            f"What the network is trained on, after the recipe: brain only, z-scored, grey from {low:g} to {high:g} "
            f"standard deviations. Above each: cohort and contrast. {SIDES}",
            f"Mosaic of {len(index)} axial brain slices labelled with cohort and contrast.",
        )


def planes_figure(name: str, label: str, volume: Volume, mask: Bool[np.ndarray, "i j k"], told: str) -> Figure:
    """Axial, coronal and sagittal plane of the first contrast with the outline of the brain mask, and labels if any.

    Args:
        name: of the case.
        label: what kind of subject it is, for the headline.
        volume: the scan.
        mask: brain mask on its grid.
        told: where the mask comes from.
    """
    centre = _centre(mask if volume.label_map is None or not volume.label_map.any() else volume.label_map > 0)
    image = volume.voxels[0]
    low, high = display_range(image)
    spacing = volume.spacing_mm
    aspects = (spacing[1] / spacing[0], spacing[2] / spacing[0], spacing[2] / spacing[1])
    side_mm = [count * step for count, step in zip(image.shape, spacing, strict=True)]
    widths = (side_mm[0], side_mm[0], side_mm[1])
    with style(dark=True):
        drawn = canvas(9.0, 9.0 * max(side_mm[1:]) / sum(widths) + 0.3)
        grid = drawn.subplots(1, 3, width_ratios=widths)
        for axes, axis, aspect, title in zip(grid, (2, 1, 0), aspects, ("Axial", "Coronal", "Sagittal"), strict=True):
            axes.set_axis_off()
            axes.imshow(_plane(image, axis, centre[axis]), cmap="gray", vmin=low, vmax=high, aspect=aspect)
            if volume.label_map is not None:
                _paint(axes, _plane(volume.label_map, axis, centre[axis]), aspect)
            _outline(axes, _plane(mask, axis, centre[axis]), OUTLINE)
            axes.set_title(title, fontweight="normal")
    labelled = volume.label_map is not None and bool(volume.label_map.any())
    return scans(
        drawn,
        f"scan-{slug(name)}",
        f"{name}: {label}, {volume.contrasts[0]}.",
        f"Three planes through the middle of the {'lesion' if labelled else 'brain'}; yellow outline: {told}. "
        + (f"{_legend(volume.label_map)} " if labelled and volume.label_map is not None else "")
        + f"{SIDES} In the sagittal plane the face looks to the left.",
        f"Axial, coronal and sagittal slice of {name} with the outline of its brain mask.",
    )


def similarity_figure(
    image: Float[np.ndarray, "row column"],
    points: Sequence[tuple[str, int, int]],
    maps: Mapping[str, Float[np.ndarray, "point i j"]],
) -> Figure:
    """A slice with marked points, and per encoder the similarity of every patch with the patch at each point.

    Args:
        image: the slice.
        points: name, row and column in pixels.
        maps: encoder to one map per point, scaled to [0, 1].
    """
    height, width = image.shape
    low, high = display_range(image)
    with style(dark=True):
        drawn = canvas(2.1 * (1 + len(points)) + 0.5, 2.25 * len(maps))
        grid = drawn.subplots(len(maps), 1 + len(points), squeeze=False)
        shown = None
        for row, (encoder, stack) in zip(grid, maps.items(), strict=True):
            row[0].imshow(image, cmap="gray", vmin=low, vmax=high)
            row[0].set_title(encoder)
            for n, (name, i, j) in enumerate(points):
                row[0].plot(j, i, "o", color=LABELS[n % len(LABELS)], markersize=7, markeredgecolor="white")
                shown = row[1 + n].imshow(
                    stack[n], cmap="viridis", vmin=0, vmax=1, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
                )
                row[1 + n].plot(j, i, "o", color=LABELS[n % len(LABELS)], markersize=7, markeredgecolor="white")
                row[1 + n].set_title(name, fontweight="normal")
        for axes in grid.flat:
            axes.set_axis_off()
        if shown is not None:
            drawn.colorbar(shown, ax=grid, shrink=0.7, aspect=30, label="similarity, scaled per map")
        return scans(
            drawn,
            "patch-similarity",
            f"Similarity of patches to the patch at each of {len(points)} marked places.",
            "Left: the slice with the marked places. Right: cosine of every patch token with the one under the mark, "
            "scaled to 0..1 within each map. A good encoder lights up the same tissue and leaves the rest dark; the "
            "scaling hides how large the differences are, so compare patterns and not levels.",
            f"Patch similarity maps of {', '.join(maps)} for {', '.join(name for name, _, _ in points)}.",
        )


def segmentation_figure(task: str, model: str, cases: Sequence[Segmentation]) -> Figure:
    """Truth beside prediction on the slice with most of the true lesion, for a few cases."""
    with style(dark=True):
        drawn = canvas(7.5, 2.65 * len(cases))
        grid = drawn.subplots(len(cases), 3, squeeze=False)
        for row, case in zip(grid, cases, strict=True):
            truth = case.volume.label_map
            assert truth is not None
            number = int(np.argmax((truth > 0).sum(axis=(0, 1))))
            spacing = case.volume.spacing_mm
            aspect = spacing[1] / spacing[0]
            image = _plane(case.volume.voxels[-1], 2, number)
            low, high = display_range(case.volume.voxels[-1])
            titles = (f"{case.rank}: {case.case}", "truth", f"prediction, Dice {case.dice:.2f}")
            for axes, labels, title in zip(row, (None, truth, case.predicted), titles, strict=True):
                axes.set_axis_off()
                axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect)
                axes.set_title(title, fontsize=9, fontweight="normal")
                if labels is not None:
                    _paint(axes, _plane(labels, 2, number), aspect)
    every = np.concatenate([np.unique(case.volume.label_map) for case in cases if case.volume.label_map is not None])
    return scans(
        drawn,
        f"segmentation-{slug(task)}-{slug(model)}",
        f"{task}: {', '.join(case.rank for case in cases)} test case by Dice, {model}.",
        f"Axial slice with most of the true lesion, on {cases[0].volume.contrasts[-1]}. {_legend(every)} Dice is the "
        f"mean over the regions of the whole volume. {SIDES}",
        f"True and predicted segmentation of {len(cases)} test cases.",
    )


def _plane(array: Shaped[np.ndarray, "i j k"], axis: int, index: int) -> Shaped[np.ndarray, "row column"]:
    """A slice across `axis` as a picture: Anterior, or Superior, at the top; the face looks left in sagittal planes."""
    if axis == 2:
        return np.asarray(array[:, ::-1, index].T)
    if axis == 1:
        return np.asarray(array[:, index, ::-1].T)
    return np.asarray(array[index, ::-1, ::-1].T)


def _centre(region: Bool[np.ndarray, "i j k"]) -> tuple[int, int, int]:
    i, j, k = (round(float(places.mean())) for places in np.nonzero(region))
    return i, j, k


def _outline(axes: Any, mask: Bool[np.ndarray, "row column"], colour: str) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.1)


def _paint(axes: Any, labels: Shaped[np.ndarray, "row column"], aspect: float) -> None:
    """Labels in colours over a picture, half transparent."""
    from matplotlib.colors import to_rgba

    picture = np.zeros((*labels.shape, 4))
    for value in np.unique(labels[labels > 0]):
        picture[labels == value] = to_rgba(_colour(int(value)), 0.6)
    axes.imshow(picture, aspect=aspect)


def _colour(label: int) -> str:
    return LABELS[(label - 1) % len(LABELS)]


def _legend(labels: np.ndarray) -> str:
    names = dict(zip(LABELS, ("light blue", "orange", "red", "pink", "green", "dark blue"), strict=True))
    present = [int(value) for value in np.unique(labels) if value > 0]
    return "Labels: " + ", ".join(f"{value} {names[_colour(value)]}" for value in present) + "." if present else ""
