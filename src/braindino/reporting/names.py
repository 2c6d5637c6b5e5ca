"""What tasks, models, metrics and regions are called on the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from braindino.layouts.labels import SCHEMES
from braindino.stats.metrics import METRICS
from braindino.stats.names import plugin_of

RANDOM, PRIOR, CLINICAL = "random_init", "prior", "clinical"
"""Encoder, head and encoder that anything learned must beat."""
BASELINES = {RANDOM: "the same network with random weights", PRIOR: "the trivial answer (prior)",
             CLINICAL: "age and sex alone"}  # fmt: skip
ENCODERS = {RANDOM: "random init", "pca": "PCA of slices", "regions": "brain regions", CLINICAL: "age and sex"}
"""Plug-ins whose names say too little, in words; every other one goes by its own name. Those that fewer tasks have come
last, so that the others keep their colours."""

VARIANTS = {"mean_patch": "patch mean", "concat": "contrasts concatenated", "weighted": "contrasts weighted",
            "combat": "ComBat"}  # fmt: skip
"""What `stats.names` puts behind the name of a plug-in, in words; variants of encoders go by their own names."""

SHORT = {"mae": "MAE", "roc_auc": "AUC", "concordance_index": "C-index", "dice": "Dice", "hd95_mm": "HD95 (mm)",
         "rmse": "RMSE", "r2": "R²", "pearson_r": "Pearson r", "brier": "Brier score", "f1": "F1",
         "auprc": "AUPRC", "ece": "ECE", "concordance_ipcw": "C-index (IPCW)",
         "integrated_brier": "integrated Brier score", "brier_skill": "Brier skill against Kaplan-Meier",
         "surface_dice": "surface Dice (1 mm)", "lesionwise_dice": "lesion-wise Dice",
         "lesionwise_hd95_mm": "lesion-wise HD95 (mm)"}  # fmt: skip
IN_UNIT = ("mae", "rmse")
"""Metrics in the unit of the target."""
REGIONS = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}


ABBREVIATIONS = ("ad", "cn", "idh")
"""Words of tasks' names that are written in capitals."""


def task_label(task: str) -> str:
    """`brain_age` as "Brain age", `idh` as "IDH"."""
    words = " ".join(word.upper() if word in ABBREVIATIONS else word for word in task.split("_"))
    return words[:1].upper() + words[1:]


def encoder_label(encoder: str) -> str:
    """`random_init` as "random init", `dinov3@paper+concat` as "dinov3 (paper, contrasts concatenated)"."""
    plugin, *told = re.split("[@+]", encoder)
    return ENCODERS.get(plugin, plugin) + _in_brackets(told)


def head_label(head: str) -> str:
    """`cox+combat` as "cox (ComBat)"."""
    plugin, *told = re.split("[@+]", head)
    return plugin + _in_brackets(told)


def _in_brackets(told: list[str]) -> str:
    return f" ({', '.join(VARIANTS.get(one, one) for one in told)})" if told else ""


def trivial(head: str) -> bool:
    """Whether a head gives the trivial answer, whatever stands around it."""
    return plugin_of(head) == PRIOR


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels of models as figures list and colour them: by name, those of `ENCODERS` after all others."""
    last = list(ENCODERS.values())
    return sorted(labels, key=lambda text: (1 + next((n for n, w in enumerate(last) if text.startswith(w)), -1), text))


def baseline_label(baseline: str) -> str:
    """A key of `BASELINES` in two or three words."""
    return PRIOR if baseline == PRIOR else encoder_label(baseline)


def model_label(encoder: str, head: str, others: Iterable[str] = ()) -> str:
    """An encoder with its head in words; the head of the trivial answer is enough.

    Args:
        encoder: name in a table.
        head: name in a table.
        others: heads beside it; where all learned ones are the same, the encoder's name alone tells models apart.
    """
    if trivial(head):
        return head_label(head)
    name = encoder_label(encoder)
    return name if {one for one in others if not trivial(one)} == {head} else f"{name}, {head_label(head)}"


def metric_label(metric: str, *, unit: str = "", arrow: bool = False) -> str:
    """A metric's name as it is read aloud, its unit where that is the target's, and which direction is good.

    `arrow`: the direction as an arrow instead of words.
    """
    known = METRICS.get(metric)
    up, down = (" ↑", " ↓") if arrow else (", higher is better", ", lower is better")
    direction = "" if known is None or known.best is not None else (up if known.higher_is_better else down)
    in_unit = f" ({unit})" if unit and metric in IN_UNIT else ""
    return SHORT.get(metric, metric.replace("_", " ")) + in_unit + direction


def label_names(regions: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Names of the labels of a segmentation task, of the scheme that has these regions; empty where none has."""
    return next((dict(one.values) for one in SCHEMES.values() if dict(one.regions) == dict(regions)), {})
