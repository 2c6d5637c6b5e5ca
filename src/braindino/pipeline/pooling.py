"""Views to one vector per subject: mean over slices, and how several contrasts are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float16

Fusion = Literal["mean", "concat", "weighted"]
"""How contrasts are put together: the mean of all their views; the means of each one after the other; or their sum by
weights that are learned with the head (see `fitting.fusion`)."""


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
        ValueError: another fusion, or `concat` of a case that lacks a contrast.
    """
    if fusion == "mean":
        there = ~np.isnan(values).all(axis=1)
        return np.asarray(values[there].astype(np.float64).mean(axis=0))
    if fusion != "concat":
        raise ValueError(f"unknown fusion {fusion!r}, expected {', '.join(get_args(Fusion))}; weights are learned")
    means = by_contrast(values, contrasts)
    if lacking := [one for one, mean in zip(dict.fromkeys(contrasts), means, strict=True) if np.isnan(mean).all()]:
        raise ValueError(
            f"{name} has no {', '.join(lacking)}, which concat needs; use fusion mean or weighted, or leave it out"
        )
    return means.ravel()


def by_contrast(values: Float16[np.ndarray, "view dim"], contrasts: Sequence[str]) -> Float[np.ndarray, "contrast dim"]:
    """The mean over the views of each contrast of one case, in their order; NaN for one that it lacks."""
    own = np.array(contrasts)
    return np.stack([values[own == one].astype(np.float64).mean(axis=0) for one in dict.fromkeys(contrasts)])
