"""Which learning rate and weight decay each parameter gets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

_TOKENS = ("cls_token", "storage_tokens", "mask_token")


def parameter_groups(
    module: nn.Module, depth: int, *, layer_decay: float = 1.0, patch_multiplier: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for an optimizer: parameters with the same rates together, in the order of their first name.

    Args:
        module: a backbone, a projection head, or a module that holds them.
        depth: number of blocks L of the backbone.
        layer_decay: factor per block, counted from the last one (`rate_multiplier`).
        patch_multiplier: extra factor of the patch embedding.

    Returns:
        Dicts with `params`, `names`, `rate_multiplier`, `decay_multiplier` (0 or 1), `last_layer` (the prototypes) and
        `backbone` (all of it but the patch embedding), which some recipes freeze at first. Parameters without
        gradient are left out.
    """
    groups: dict[tuple[float, float, bool, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        multiplier = rate_multiplier(name, depth, layer_decay=layer_decay, patch_multiplier=patch_multiplier)
        rates = {
            "rate_multiplier": multiplier,
            "decay_multiplier": float(decays(name)),
            "last_layer": "last_layer" in name.split("."),
            "backbone": name.startswith("backbone.") and not name.startswith("backbone.patch_embed."),
        }
        group = groups.setdefault(tuple(rates.values()), {"params": [], "names": [], **rates})  # type: ignore[arg-type]
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def rate_multiplier(name: str, depth: int, *, layer_decay: float, patch_multiplier: float) -> float:
    """layer_decay^(L + 1 - id): id 0 for tokens and patch embedding, i + 1 for block i, L + 1 for all else."""
    parts = name.split(".")
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    if block:
        return layer_decay ** (depth - int(block[1]))
    if "patch_embed" in parts:
        return patch_multiplier * layer_decay ** (depth + 1)
    return layer_decay ** (depth + 1) if parts[-1] in _TOKENS else 1.0


def decays(name: str) -> bool:
    """True where weight decay applies: not on biases, norms and LayerScale gammas, but on everything else."""
    return not (name.endswith("bias") or "norm" in name or "gamma" in name)


def set_rates(
    groups: Iterable[dict[str, Any]],
    learning_rate: float,
    weight_decay: float,
    *,
    freeze_last_layer: bool = False,
    backbone: float = 1.0,
) -> None:
    """Write this step's `lr` and `weight_decay` into the groups (those of the optimizer), times their multipliers.

    `backbone` in [0, 1] is a further factor on the rate of the backbone without its patch embedding. What is frozen
    gets a rate of 0, and with it no decay; the moments of the optimizer still gather.
    """
    for group in groups:
        factor = (not (freeze_last_layer and group["last_layer"])) * (backbone if group["backbone"] else 1.0)
        group["lr"] = learning_rate * group["rate_multiplier"] * factor
        group["weight_decay"] = weight_decay * group["decay_multiplier"]


def scaled_rate(base: float, batch_size: int, rule: Literal["sqrt_1024", "linear_256"] = "sqrt_1024") -> float:
    """Learning rate for a global batch: base * 4 sqrt(batch / 1024) (DINOv2, DINOv3), or base * batch / 256 (DINO)."""
    return base * (4 * math.sqrt(batch_size / 1024) if rule == "sqrt_1024" else batch_size / 256)
