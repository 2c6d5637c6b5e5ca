"""Groups of cases by sex, age, site and contrasts: is a model as good for everybody?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool

from braindino.stats.sheets import Sheet

AGE = "age"
STRATA = ("sex", AGE, "site", "contrasts")
AGES = (0, 20, 40, 60, 80)
"""Lower ends of the age bands in years; the last one is open."""
LEAST_SUBJECTS, LEAST_OF_A_KIND = 20, 5
"""Subjects (families) that a test within a stratum needs, and of each class, or with an event, among them."""


def strata(sheet: Sheet) -> Iterator[tuple[str, str, Sheet]]:
    """(variable, level, the cases of that level alone) for each variable of `STRATA` that the table has.

    Variables with one level are left out: they are the whole. Cases without a value are left out of that variable.
    """
    for variable in STRATA:
        if variable not in sheet.about:
            continue
        levels = levels_of(sheet, variable)
        found = [level for level in dict.fromkeys(sorted(levels, key=_order)) if level]
        if len(found) > 1:
            yield from ((variable, level, only(sheet, levels == level)) for level in found)


def only(sheet: Sheet, where: Bool[np.ndarray, " case"]) -> Sheet:
    """A sheet of some of the cases."""
    models = tuple(
        replace(
            model,
            outputs=tuple(output[where] for output in model.outputs),
            ok=model.ok[where],
            curves=tuple(curve[where] for curve in model.curves),
        )
        for model in sheet.models
    )
    about = sheet.about[where].reset_index(drop=True)
    return replace(sheet, subjects=sheet.subjects[where], target=sheet.target[where], models=models, about=about)


def age_band(age: float) -> str:
    """`60-79` for 71 years; the last band is `80 and older`; "" where the age is not known."""
    if not np.isfinite(age) or age < AGES[0]:
        return ""
    lowest = max(low for low in AGES if low <= age)
    nxt = next((low for low in AGES if low > age), None)
    return f"{lowest} and older" if nxt is None else f"{lowest}-{nxt - 1}"


def levels_of(sheet: Sheet, variable: str) -> np.ndarray:
    """(case,): the level of each case, "" where it is not known."""
    column = sheet.about[variable]
    if variable == AGE:
        return np.asarray([age_band(age) for age in pd.to_numeric(column, errors="coerce")], object)
    return np.asarray(["" if pd.isna(cell) else str(cell) for cell in column], object)


def large_enough(sheet: Sheet, where: Bool[np.ndarray, " case"] | None = None) -> bool:
    """Whether models may be compared on these cases of a stratum (all without `where`).

    True from `LEAST_SUBJECTS` subjects (families) on, of whom `LEAST_OF_A_KIND` are of each class of the task
    (classification) or have the event (survival).
    """
    where = np.ones(len(sheet.subjects), bool) if where is None else where
    kinds: list[np.ndarray] = []
    if sheet.kind == "classification":
        kinds = [where & (sheet.target == number) for number in range(len(sheet.outputs))]
    if sheet.kind == "survival":
        kinds = [where & (sheet.target[:, 1] > 0)]
    sizes = [len(np.unique(sheet.clusters[own])) for own in (where, *kinds)]
    return sizes[0] >= LEAST_SUBJECTS and all(size >= LEAST_OF_A_KIND for size in sizes[1:])


def _order(level: str) -> tuple[float, str]:
    """Bands by their age, everything else by name."""
    first = level.replace("-", " ").split(" ")[0]
    return (float(first) if first.isdecimal() else 0.0, level)
