"""Curves of a pretraining run: every term of the loss and every monitor over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindino.reporting.figures import DASHES, INK, PALETTE, Figure, canvas, curves, slug, style
from braindino.reporting.page import counted

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
    ("Total loss", (("total", ""),), ""),
    ("CLS agreement (nats)", (("global", "global"), ("local", "local")), "dino_head"),
    ("Masked patches (iBOT)", (("ibot", ""),), "ibot_head"),
    ("Spread (KoLeo)", (("koleo", ""),), ""),
    ("Normality (SIGReg)", (("sigreg", ""),), ""),
    ("Gram anchor", (("gram", ""),), ""),
    ("k-NN probe", (("knn_cls", "CLS"), ("knn_patch", "mean patch"), ("knn_trivial", "trivial")), ""),
    ("CLS targets: entropy", (("target_entropy", "each"), ("mean_target_entropy", "their mean")), "dino_head"),
    (
        "Patch targets: entropy",
        (("patch_target_entropy", "each"), ("patch_mean_target_entropy", "their mean")),
        "ibot_head",
    ),
    ("KL of CLS targets (nats)", (("kl", ""),), ""),
    ("Prototypes in a batch", (("prototypes_used", "CLS"), ("patch_prototypes_used", "patch")), ""),
    ("Longest prototype", (("prototype_norm", "CLS"), ("patch_prototype_norm", "patch")), ""),
    ("Mean cosine", (("cls_cosine", "CLS"), ("patch_cosine", "patches of a crop")), ""),
    ("Effective rank of CLS", (("effective_rank", ""),), ""),
    (
        "Gradient norm",
        (("grad_norm_backbone", "backbone"), ("grad_norm_dino_head", "DINO"), ("grad_norm_ibot_head", "iBOT")),
        "",
    ),
    ("Learning rate", (("lr", ""),), ""),
    ("Teacher momentum", (("momentum", ""),), ""),
)
"""Title of a panel, the entries of the log in it with their names, and the head whose ln K is its reference line."""
COLUMNS = 3
POINTS = 800
"""Of longer curves as many blocks of steps are drawn, each by its median and the span of its values."""


def training_figure(
    run: str, log: Sequence[Mapping[str, Any]], config: Mapping[str, Any], synthetic: bool = False
) -> Figure:
    """Small panels over the steps of one run.

    Args:
        run: what the run is called.
        log: entries of `log.jsonl`.
        config: of the run's record; `dino_head.prototypes` and `ibot_head.prototypes` give K of the lines at ln K.
        synthetic: the corpus holds synthetic subjects.

    Raises:
        ValueError: an empty log.
    """
    if not log:
        raise ValueError(f"the log of run {run!r} is empty; a finished run has an entry for each step")
    shown = [panel for panel in PANELS if any(name in entry for entry in log for name, _ in panel[1])]
    rows = math.ceil(len(shown) / COLUMNS)
    with style():
        drawn = canvas(9.0, 2.25 * rows, synthetic=synthetic)
        grid = drawn.subplots(rows, COLUMNS, squeeze=False, sharex=True)
        for axes, panel in zip(grid.flat, shown, strict=False):
            _panel(axes, log, panel, config)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        for column in grid.T:
            for axes in [axes for axes in column if axes.get_visible()][-1:]:
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("Step")
        bad = sum(not entry.get("finite", True) for entry in log)
        return curves(
            drawn,
            f"training-{slug(run)}",
            f"Training of {run}, {len(log)} steps.",
            "Pale are single steps, thick lines a running median; axes do not begin at 0. The dashed line is ln K, K "
            "being the number of prototypes: an agreement (cross-entropy, nats) that stays there has learned nothing "
            "(masked patches: ln K times the share of masked crops). Targets say nothing where each has that entropy, "
            "and one and the same of every slice where the entropy of their mean falls onto that of each. Collapse "
            "would also show as a cosine near 1 (between CLS tokens of different samples, or between patches of one "
            "crop) or an effective rank near 1. "
            + _probe_words(log, config)
            + (f"Skipped, since the loss was not finite: {counted(bad, 'step')}." if bad else "Every step was finite."),
            f"Curves of the losses and monitors of run {run} over {len(log)} steps.",
        )


def _panel(axes: Any, log: Sequence[Mapping[str, Any]], panel: Any, config: Mapping[str, Any]) -> None:
    title, names, head = panel
    present = [pair for pair in names if any(pair[0] in entry for entry in log)]
    for (name, label), colour, dash in zip(present, PALETTE, DASHES, strict=False):
        pairs = [(entry["step"], float(entry[name])) for entry in log if name in entry]
        step, value, low, high = thinned(*np.array(pairs, float).T)
        if len(value) < len(pairs):
            axes.fill_between(step, low, high, color=colour, alpha=0.25, linewidth=0)
        else:
            axes.plot(step, value, color=colour, alpha=0.35, linewidth=0.8)
        axes.plot(step, running_median(value), color=colour, linestyle=dash, label=label)
    prototypes = config.get(head, {}).get("prototypes") if head else None
    if prototypes:
        share = config["loss"]["mask_probability"] if head == "ibot_head" and "ibot" in dict(present) else 1
        level = share * math.log(prototypes)
        axes.axhline(level, color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
        text = f"{f'{share:g} ' if share != 1 else ''}ln {prototypes} = {level:.2f}"
        axes.annotate(text, (1, level), (0, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="bottom", fontsize=7.5)  # fmt: skip
    axes.set_title(title, pad=18 if len(present) > 1 else 6)
    axes.margins(x=0.02, y=0.12)
    if len(present) > 1:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 3, "borderaxespad": 0.1}
        axes.legend(fontsize=7.5, handlelength=1.7, columnspacing=0.8, handletextpad=0.4, **place)


def _probe_words(log: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """What the k-NN probe shows, where there is one."""
    if not any("knn_cls" in entry for entry in log):
        return ""
    target = config.get("probe", {}).get("target", "")
    unit = "mean error in years, low is good" if target == "age" else "balanced accuracy, high is good"
    return f"The k-NN probe asks the teacher's features for the {target} of held-out subjects ({unit}). "


def thinned(step: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Middle step, median, least and greatest value of at most `POINTS` blocks of equal length; NaN is left out.

    Curves that are not longer come back as they are.
    """
    length = -(-len(value) // POINTS)
    if length < 2:
        return step, value, value, value
    parts = [value[n : n + length] for n in range(0, len(value), length)]
    finite = [part[np.isfinite(part)] for part in parts]
    middle = np.array([step[n : n + length].mean() for n in range(0, len(value), length)])
    numbers = [(np.median(part), part.min(), part.max()) if len(part) else (np.nan,) * 3 for part in finite]
    return (middle, *np.array(numbers).T)


def running_median(values: np.ndarray) -> np.ndarray:
    """Median over a window of a twentieth of the run (at least 3 steps), shortened at the ends; NaN is left out."""
    half = max(1, len(values) // 40)
    windows = [values[max(0, n - half) : n + half + 1] for n in range(len(values))]
    return np.array([np.median(w[np.isfinite(w)]) if np.isfinite(w).any() else np.nan for w in windows])
