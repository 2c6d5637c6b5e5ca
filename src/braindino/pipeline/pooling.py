"""Views to one vector per subject: mean over slices, and how several contrasts are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float16

Fusion = Literal["mean", "concat"]
"""How contrasts are put together: the mean of all their views, or the means of each one after the other."""


def pooled(
    values: Float16[np.ndarray, "view dim"], contrasts: Sequence[str], fusion: str = "mean", name: str = "this case"
) -> Float[np.ndarray, " feature"]:
    """One vector of one case in float64.

    `mean`: the mean over all views that are there, so each contrast that the case has counts the same. `concat`: the
    mean over the views of each contrast, one after the other in their order: dim x contrasts numbers.

    Args:
        values: vectors of the views; NaN for those of a contrast that the case lacks.
        contrasts: contrast of each view.
        fusion: how.
        name: of the case, for the message.

    Raises:
        ValueError: an unknown fusion, or `concat` of a case that lacks a contrast.
    """
    if fusion not in get_args(Fusion):
        raise ValueError(f"unknown fusion {fusion!r}, expected {' or '.join(get_args(Fusion))}")
    there = ~np.isnan(values).all(axis=1)
    if fusion == "mean":
        return np.asarray(values[there].astype(np.float64).mean(axis=0))
    own = np.array(contrasts)
    if missing := sorted({*own} - {*own[there]}):
        raise ValueError(f"{name} has no {', '.join(missing)}, which concat needs; use fusion mean, or leave it out")
    return np.concatenate([values[own == one].astype(np.float64).mean(axis=0) for one in dict.fromkeys(contrasts)])
