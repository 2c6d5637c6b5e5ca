"""Who and what is in a corpus: ages and sexes, voxel sizes, orientations, brain volumes, image quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from braindino.reporting.corpus_view import OLDEST
from braindino.reporting.figures import DASHES, GREY, PALETTE, Figure, canvas, curves, shortened, style
from braindino.reporting.page import counted

if TYPE_CHECKING:
    import pandas as pd

AXES = {"spacing_r_mm": "Right", "spacing_a_mm": "Anterior", "spacing_s_mm": "Superior"}
MOST_ORIENTATIONS, MOST_COHORTS = 8, 24
BINS = 24
LEAST_BARS = 4
"""Room for so many bars, so that a single one does not fill its panel."""
MOST_POINTS = 2000
"""Of more scans than this the density is drawn, not every one."""
SEXES = {"F": ("female", PALETTE[4]), "M": ("male", PALETTE[0]), "": ("sex not known", GREY)}
OTHERS = "others"


def people_figure(subjects: pd.DataFrame, sessions: pd.DataFrame, synthetic: bool = False) -> Figure:
    """Ages, and subjects of each cohort, both by sex; ages by cohort where no sex is known.

    Args:
        subjects: as `corpus_view.subjects_of` gives them.
        sessions: as `corpus_view.sessions_of` gives them.
        synthetic: the corpus holds synthetic subjects.
    """
    aged, seen = subjects.dropna(subset="age"), sessions["age"].dropna()
    sizes = subjects["cohort"].value_counts()
    with style():
        drawn = canvas(9.0, max(3.2, 1.3 + 0.2 * min(len(sizes), MOST_COHORTS + 1)), synthetic=synthetic)
        ages, cohorts = drawn.subplots(1, 2)
        _ages(ages, aged, seen)
        _cohorts(cohorts, subjects, sizes)
    line = f"; the dashed line counts all {counted(len(seen), 'session')} with an age" if len(seen) > len(aged) else ""
    return curves(
        drawn,
        "corpus-people",
        "The subjects of the corpus.",
        f"Left: {len(aged)} of {counted(len(subjects), 'subject')} have an age. Each counts once, at the first session "
        f"with one{line}. Subjects above {OLDEST:.0f} years are not told apart. Right: subjects of each cohort.",
        "Histogram of the subjects' ages and bars of their numbers by cohort.",
    )


def _ages(axes: Any, aged: pd.DataFrame, seen: pd.Series) -> None:
    axes.set(title="Age", xlabel="Years", ylabel="Subjects")
    axes.yaxis.get_major_locator().set_params(integer=True)
    if not len(aged):
        axes.text(0.5, 0.5, "no age is known", transform=axes.transAxes, ha="center", va="center")
        return
    low, high = float(seen.min()), float(seen.max())
    step = next(width for width in (1, 2, 5) if width == 5 or high - low <= BINS * width)
    edges = np.arange(step * math.floor(low / step), high + step + 1e-9, step)
    groups = _sexes(aged) if (aged["sex"] != "").any() else _largest_cohorts(aged)
    below = np.zeros(len(edges) - 1)
    for name, (own, colour) in groups.items():
        counts = np.histogram(own["age"], edges)[0]
        label = f"{shortened(name, 24)} ({len(own)})"
        axes.bar(edges[:-1], counts, step, below, align="edge", color=colour, edgecolor="none", label=label)
        below += counts
    if len(seen) > len(aged):
        counts = np.histogram(seen, edges)[0]
        axes.stairs(counts, edges, color=PALETTE[1], linestyle=DASHES[1], label=f"all sessions ({len(seen)})")
    if high >= OLDEST:
        places = [place for place in axes.get_xticks() if edges[0] <= place <= OLDEST - 4]
        axes.set_xticks([*places, OLDEST], [*(f"{place:g}" for place in places), f"{OLDEST:.0f}+"])
    axes.set_ylim(0, 1.3 * max(axes.get_ylim()[1] / 1.05, 1))
    axes.legend(loc="upper left", ncols=2)


def _sexes(subjects: pd.DataFrame) -> Mapping[str, tuple[pd.DataFrame, str]]:
    """Subjects of each sex that is there, with its colour."""
    parts = {name: (subjects[subjects["sex"] == sex], colour) for sex, (name, colour) in SEXES.items()}
    return {name: part for name, part in parts.items() if len(part[0])}


def _largest_cohorts(subjects: pd.DataFrame) -> Mapping[str, tuple[pd.DataFrame, str]]:
    """Subjects of the largest cohorts with a colour each, and all others together."""
    names = list(subjects["cohort"].value_counts().index)
    few = names if len(names) <= len(PALETTE) else names[: len(PALETTE) - 1]
    parts = {str(name): (subjects[subjects["cohort"] == name], PALETTE[n]) for n, name in enumerate(few)}
    rest = subjects[~subjects["cohort"].isin(few)]
    return parts | ({OTHERS: (rest, GREY)} if len(rest) else {})


def _cohorts(axes: Any, subjects: pd.DataFrame, sizes: pd.Series) -> None:
    names = [*sizes.index[:MOST_COHORTS]]
    place = {name: n for n, name in enumerate(names)}
    places = subjects["cohort"].map(place).fillna(len(names)).to_numpy(int)
    rows = len(names) + (len(sizes) > len(names))
    before = np.zeros(rows)
    for name, (own, colour) in _sexes(subjects.assign(place=places)).items():
        counts = np.bincount(own["place"], minlength=rows)
        axes.barh(range(rows), counts, left=before, color=colour, edgecolor="none", label=name)
        before += counts
    for row, total in enumerate(before):
        axes.annotate(f"{total:.0f}", (total, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
    labels = [shortened(str(name), 24) for name in names]
    axes.set_yticks(range(rows), labels if rows == len(labels) else [*labels, f"{len(sizes) - len(labels)} {OTHERS}"])
    axes.set(title="Cohort", xlabel="Subjects", xlim=(0, 1.12 * before.max()))
    axes.set_ylim(max(rows, LEAST_BARS) - 0.5, -0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3, columnspacing=1, handlelength=1)


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
        left = _quality(quality, scans)
    sides = scans[list(AXES)].to_numpy(float)
    thick = int((sides.max(axis=1) > 2 * sides.min(axis=1)).sum())
    outside = f"; {left} with an extreme or no value lie outside of the last panel" if left else ""
    return curves(
        drawn,
        "corpus-scans",
        "The scans of the corpus.",
        "Voxel edges along each axis, axis codes of the files before they were turned to RAS, brain volume, "
        "and two measures of quality (SNR: deviation inside the brain over noise, higher is better; CJV: overlap of "
        f"dark and bright tissue, lower is better). {counted(len(scans), 'scan')}, {thick} with one voxel edge more "
        f"than twice another{outside}.",
        "Histograms of voxel edges and brain volumes, bars of orientations, SNR against CJV over all scans.",
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
        names, sizes = [*names, OTHERS], [*sizes, int(counts.iloc[MOST_ORIENTATIONS:].sum())]
    axes.barh(range(len(names)), sizes, color=PALETTE[2])
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Orientation in the file", xlabel="Scans", ylim=(max(len(names), LEAST_BARS) - 0.5, -0.5))


def _quality(axes: Any, scans: pd.DataFrame) -> int:
    """SNR against CJV, as points or, of many scans, as density; returns how many scans lie outside of the panel."""
    axes.set(title="Quality", xlabel="SNR", ylabel="CJV")
    good = scans[np.isfinite(scans[["snr", "cjv"]].to_numpy(float)).all(axis=1)]
    if len(good) > MOST_POINTS:
        return len(scans) - _density(axes, good)
    for (cohort, own), colour, marker in zip(good.groupby("cohort"), PALETTE * 4, "osD^vP" * 4, strict=False):
        name = shortened(str(cohort), 24)
        axes.scatter(own["snr"], own["cjv"], s=12, color=colour, marker=marker, alpha=0.6, linewidths=0, label=name)
    if 0 < good["cohort"].nunique() <= len(PALETTE):
        axes.legend(loc="best")
    return len(scans) - len(good)


def _density(axes: Any, good: pd.DataFrame) -> int:
    """Scans per hexagon, on the range that holds the middle 99.8 % of each measure; returns how many lie in it."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    values = good[["snr", "cjv"]].to_numpy(float)
    low, high = np.percentile(values, (0.1, 99.9), axis=0)
    inside = values[((values >= low) & (values <= high)).all(axis=1)]
    shades = LinearSegmentedColormap.from_list("page", colormaps["viridis"](np.linspace(0.2, 0.85, 64)))
    drawn = axes.hexbin(*inside.T, gridsize=36, mincnt=1, bins="log", cmap=shades, linewidths=0.1)
    axes.figure.colorbar(drawn, ax=axes, label="Scans per cell", aspect=30)
    return len(inside)
