"""Curves of a pretraining run: every term of the loss and every monitor over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindino.reporting.figures import DASHES, INK, PALETTE, Figure, canvas, curves, slug, style
from braindino.reporting.page import counted

PANELS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Total loss", ("total",), ""),
    ("CLS agreement", ("global", "local"), "dino_head"),
    ("Masked patches (iBOT)", ("ibot",), "ibot_head"),
    ("Spread (KoLeo)", ("koleo",), ""),
    ("Gram anchor", ("gram",), ""),
    ("Target entropy (nats)", ("target_entropy",), "dino_head"),
    ("Prototypes in a batch", ("prototypes_used",), ""),
    ("Cosine between CLS", ("cls_cosine",), ""),
    ("Effective rank of CLS", ("effective_rank",), ""),
    ("Gradient norm", ("grad_norm",), ""),
    ("Learning rate", ("lr",), ""),
    ("Teacher momentum", ("momentum",), ""),
)
"""Title of a panel, the entries of the log in it, and the projection head whose ln K is its reference line."""
COLUMNS = 3


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
    shown = [panel for panel in PANELS if any(name in entry for entry in log for name in panel[1])]
    rows = math.ceil(len(shown) / COLUMNS)
    with style():
        drawn = canvas(9.0, 2.1 * rows, synthetic=synthetic)
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
            "Thin lines are single steps, thick lines a running median; axes do not begin at 0. The dashed line is ln "
            "K, K being the number of prototypes: an agreement (cross-entropy, nats) that stays there has learned "
            "nothing, and targets with that entropy say nothing. Collapse would show as a cosine between CLS tokens of "
            "different samples near 1 with an effective rank near 1. "
            + (f"Skipped, since the loss was not finite: {counted(bad, 'step')}." if bad else "Every step was finite."),
            f"Curves of the losses and monitors of run {run} over {len(log)} steps.",
        )


def _panel(
    axes: Any, log: Sequence[Mapping[str, Any]], panel: tuple[str, ...] | Any, config: Mapping[str, Any]
) -> None:
    title, names, head = panel
    present = [name for name in names if any(name in entry for entry in log)]
    for name, colour, dash in zip(present, PALETTE, DASHES, strict=False):
        pairs = [(entry["step"], float(entry[name])) for entry in log if name in entry]
        step, value = np.array(pairs, float).T
        axes.plot(step, value, color=colour, alpha=0.35, linewidth=0.8)
        axes.plot(step, running_median(value), color=colour, linestyle=dash, label=name if len(present) > 1 else None)
    prototypes = config.get(head, {}).get("prototypes") if head else None
    if prototypes:
        level = math.log(prototypes)
        axes.axhline(level, color=INK, linestyle=(0, (4, 3)), linewidth=0.9)
        axes.annotate(f"ln {prototypes} = {level:.2f}", (1, level), (0, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="bottom", fontsize=7.5)  # fmt: skip
    axes.set_title(title)
    axes.margins(x=0.02, y=0.12)
    if len(present) > 1:
        place: Any = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 3, "borderaxespad": 0.1}
        axes.legend(fontsize=7.5, handlelength=1.7, columnspacing=0.8, handletextpad=0.4, **place)


def running_median(values: np.ndarray) -> np.ndarray:
    """Median over a window of a twentieth of the run (at least 3 steps), shortened at the ends; NaN is left out."""
    half = max(1, len(values) // 40)
    windows = [values[max(0, n - half) : n + half + 1] for n in range(len(values))]
    return np.array([np.median(w[np.isfinite(w)]) if np.isfinite(w).any() else np.nan for w in windows])
