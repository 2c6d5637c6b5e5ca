"""Pictures of scans: slices of a corpus, planes with outlines, patch similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from braindino.reporting.figures import Figure, canvas, display_range, scans, shortened, slug, style
from braindino.reporting.page import number

if TYPE_CHECKING:
    from braindino.reporting.corpus_view import Tile
    from braindino.types import Volume
    from braindino.volume.recipe import Recipe

OUTLINE = "#56B4E9"
"""Brain-mask contours: Okabe and Ito's light blue, used for nothing else in pictures."""
LABELS = {"#0072B2": "blue", "#F0E442": "yellow", "#D55E00": "red", "#CC79A7": "pink", "#009E73": "green",
          "#E69F00": "orange"}  # fmt: skip
"""Colours of labels with their names: the first three stay apart in every colour vision, painted at `OPACITY`."""
OPACITY = 0.85
MARKS = "osD^vP"
TILE_COLUMNS = 8
BAR_MM = 50
MARGIN_VOXELS = 3
SIDES = "L marks the subject's left."


def mosaic_figure(tiles: Sequence[Tile], recipe: Recipe) -> Figure:
    """Slices of a corpus, cohort and contrast above each."""
    low, high = recipe.background, 2.5
    alone = " The neighbours that the network sees beside each slice are not shown." if recipe.neighbours else ""
    whole = "whole heads (they can show a face: pass this page on only as the cohorts' terms allow)"
    shown = "brain only" if recipe.brain == "mask" else whole
    with style(dark=True):
        rows = math.ceil(len(tiles) / TILE_COLUMNS)
        drawn = canvas(10.0, 1.55 * rows)
        grid = drawn.subplots(rows, TILE_COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, tile in zip(grid.flat, tiles, strict=False):
            axes.imshow(tile.image, cmap="gray", vmin=low, vmax=high)
            axes.set_title(f"{shortened(tile.cohort)}\n{shortened(tile.contrast)}", fontsize=8, fontweight="normal")
        return scans(
            drawn,
            "corpus-slices",
            f"{len(tiles)} random slices of the corpus, as evenly from its cohorts and contrasts as they allow.",
            f"What the network sees after the recipe: {shown}, z-scored, grey from {number(low)} to {number(high)} "
            f"standard deviations.{alone} Above each: cohort and contrast. The left of a picture is the subject's "
            "left.",
            f"Mosaic of {len(tiles)} axial brain slices labelled with cohort and contrast.",
        )


def planes_figure(
    name: str, label: str, volume: Volume, mask: Bool[np.ndarray, "i j k"], told: str, names: Mapping[int, str]
) -> Figure:
    """Axial, coronal and sagittal plane of the first contrast with the outline of the brain mask, and labels if any.

    Args:
        name: of the case.
        label: what kind of subject it is, for the headline.
        volume: the scan.
        mask: brain mask on its grid.
        told: where the mask comes from.
        names: of the labels, where known.
    """
    labelled = volume.label_map is not None and bool(volume.label_map.any())
    region = volume.label_map > 0 if labelled and volume.label_map is not None else mask
    low, high = display_range(volume.voxels[0])
    box = head_box(volume.voxels[0], low, high)
    image, mask, region, spacing = volume.voxels[0][box], mask[box], region[box], volume.spacing_mm
    labels = None if volume.label_map is None else volume.label_map[box]
    centre = _centre(region)
    side_mm = [count * step for count, step in zip(image.shape, spacing, strict=True)]
    widths, tall = (side_mm[0], side_mm[0], side_mm[1]), max(side_mm[1:])
    with style(dark=True):
        drawn = canvas(9.0, 9.0 * tall / sum(widths) + 0.6)
        drawn.suptitle(f"{shortened(name, 40)}: {label}, {volume.contrasts[0]}", x=0.01, ha="left", fontsize=10)
        grid = drawn.subplots(1, 3, width_ratios=widths)
        for axes, axis, title in zip(grid, (2, 1, 0), ("Axial", "Coronal", "Sagittal"), strict=True):
            across, up = (side_mm[n] for n in range(3) if n != axis)
            extent = (0.0, across, (tall - up) / 2, (tall + up) / 2)
            axes.set_axis_off()
            axes.imshow(plane(image, axis, centre[axis]), cmap="gray", vmin=low, vmax=high, extent=extent)
            if labels is not None:
                paint(axes, plane(labels, axis, centre[axis]), extent)
            _outline(axes, plane(mask, axis, centre[axis]), extent)
            axes.set(xlim=(0, across), ylim=(0, tall), aspect="equal")
            axes.set_title(title, fontweight="normal")
            axes.text(0.03, 0.96, "A" if axis == 0 else "L", transform=axes.transAxes, va="top")
        grid[0].plot([6, 6 + BAR_MM], [6, 6], color="white", linewidth=2.5, solid_capstyle="butt")
        grid[0].text(6, 10, f"{BAR_MM} mm", fontsize=8)
    return scans(
        drawn,
        f"scan-{slug(name)}",
        f"{name}: {label}, {volume.contrasts[0]}.",
        f"Three planes through the middle of the {'lesion' if labelled else 'brain'}, on one scale; light blue: "
        f"outline of the brain mask ({told}). "
        + (f"{legend(volume.label_map, names)} " if volume.label_map is not None else "")
        + "L marks the subject's left, A the front.",
        f"Axial, coronal and sagittal slice of {name} with the outline of its brain mask.",
    )


def similarity_figure(
    image: Float[np.ndarray, "row column"],
    points: Sequence[tuple[str, int, int]],
    maps: Mapping[str, Float[np.ndarray, "point i j"]],
    synthetic: bool,
) -> Figure:
    """A slice with marked points, and per encoder the similarity of every patch with the patch at each point.

    Args:
        image: the slice.
        points: name, row and column in pixels.
        maps: encoder to one map per point, scaled to [0, 1].
        synthetic: the subject is synthetic.
    """
    height, width = image.shape
    low, high = display_range(image)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    with style(dark=True):
        drawn = canvas(2.1 * (1 + len(points)) + 0.5, 2.25 * len(maps), synthetic=synthetic)
        grid = drawn.subplots(len(maps), 1 + len(points), squeeze=False)
        shown = None
        for row, (encoder, stack) in zip(grid, maps.items(), strict=True):
            row[0].imshow(image, cmap="gray", vmin=low, vmax=high)
            row[0].set_title(shortened(encoder, 24))
            for n, (name, i, j) in enumerate(points):
                mark = {"marker": MARKS[n % len(MARKS)], "markersize": 7, "markeredgecolor": "white"}
                colour = list(LABELS)[n % len(LABELS)]
                shown = row[1 + n].imshow(stack[n], cmap="viridis", vmin=0, vmax=1, extent=extent)
                for axes in (row[0], row[1 + n]):
                    axes.plot(j, i, color=colour, **mark)
                row[1 + n].set_title(f"to {shortened(name)}", fontweight="normal")
        for axes in grid.flat:
            axes.set_axis_off()
        if shown is not None:
            drawn.colorbar(shown, ax=grid, shrink=0.7, aspect=30, label="cosine, scaled per map")
        return scans(
            drawn,
            "patch-similarity",
            f"Similarity of patches to the patch at each of {len(points)} marked places.",
            "Left: the slice with the marked places. Right: cosine of every patch token with the one under the mark, "
            "scaled to 0..1 within each map. A good encoder lights up the same tissue and leaves the rest dark; the "
            "scaling hides how large the differences are, so compare patterns and not levels. One slice of one "
            "subject, the one with most of the lesion: an example, no measurement.",
            f"Patch similarity maps of {', '.join(maps)} for {', '.join(name for name, _, _ in points)}.",
        )


def legend(labels: Shaped[np.ndarray, ...], names: Mapping[int, str]) -> str:
    """The colours of the labels that are present, in words; "" without any."""
    present = [int(value) for value in np.unique(labels) if value > 0]
    if not present:
        return ""
    told = [f"{LABELS[label_colour(v)]} {names.get(v, f'label {v}')}" for v in present]
    return f"Colours: {', '.join(told)}."


def label_colour(label: int) -> str:
    """The colour in which a label is painted; labels begin at 1, the colours repeat."""
    return list(LABELS)[(label - 1) % len(LABELS)]


def plane(array: Shaped[np.ndarray, "i j k"], axis: int, index: int) -> Shaped[np.ndarray, "row column"]:
    """A slice across `axis` as a picture: Anterior, or Superior, at the top; the face looks left in sagittal planes."""
    if axis == 2:
        return np.asarray(array[:, ::-1, index].T)
    if axis == 1:
        return np.asarray(array[:, index, ::-1].T)
    return np.asarray(array[index, ::-1, ::-1].T)


def head_box(
    image: Float[np.ndarray, "*axes"], low: float, high: float, margin: int = MARGIN_VOXELS
) -> tuple[slice, ...]:
    """The smallest box around everything brighter than a tenth of the grey window, with a margin in voxels."""
    bright = image > low + 0.1 * (high - low)
    box = []
    for axis, count in enumerate(image.shape):
        places = np.flatnonzero(bright.any(axis=tuple(n for n in range(image.ndim) if n != axis)))
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, count - 1)
        box.append(slice(max(0, first - margin), min(count, last + 1 + margin)))
    return tuple(box)


def _centre(region: Bool[np.ndarray, "i j k"]) -> tuple[int, int, int]:
    i, j, k = (round(float(places.mean())) for places in np.nonzero(region))
    return i, j, k


def _outline(axes: Any, mask: Bool[np.ndarray, "row column"], extent: tuple[float, ...]) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=[OUTLINE], linewidths=1.2, extent=extent, origin="upper")


def paint(axes: Any, labels: Shaped[np.ndarray, "row column"], extent: tuple[float, ...]) -> None:
    """Labels in colours over a picture."""
    from matplotlib.colors import to_rgba

    picture = np.zeros((*labels.shape, 4))
    for value in np.unique(labels[labels > 0]):
        picture[labels == value] = to_rgba(label_colour(int(value)), OPACITY)
    axes.imshow(picture, extent=extent)
