"""Tasks: a question with a known answer for each case. One file each, about 25 lines.

Contract: a module defines `build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from braindino.types import SPLITS, Case, Split, Task

SHARES = (0.5, 0.15, 0.35)
"""Shares of the subjects for train, validation and test."""


def known(value: object) -> bool:
    """True where a cell of the participants table holds a value (not missing, not NaN, not `n/a`)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return str(value) not in ("", "n/a", "nan")


def select(cases: Sequence[Case], contrasts: Sequence[str], columns: Sequence[str], what: str) -> tuple[Case, ...]:
    """The cases that have every contrast and a known value in every column, reduced to those contrasts.

    Raises:
        ValueError: fewer than 8 subjects are left, too few to split three ways.
    """
    chosen = []
    for case in cases:
        scans = [next((s for s in case.scans if s.contrast == contrast), None) for contrast in contrasts]
        if all(scans) and all(known(case.participant.get(column)) for column in columns):
            found = tuple(scan for scan in scans if scan is not None)
            chosen.append(Case(case.subject, found, case.session, case.site, case.participant))
    subjects = len({case.subject for case in chosen})
    if subjects < 8:
        needs = f"contrasts {', '.join(contrasts)}" + (f" and columns {', '.join(columns)}" if columns else "")
        raise ValueError(f"task {what}: only {subjects} subjects have {needs}; at least 8 are needed")
    return tuple(sorted(chosen, key=lambda case: case.name))


def three_way(strata: Mapping[str, object], seed: int, families: Mapping[str, str] | None = None) -> dict[str, Split]:
    """Train, validation or test for each subject, stratified; the same for the same subjects, families and seed.

    Subjects are taken stratum by stratum, in random order within each; the next one goes to the split that lies
    furthest behind its share. So shares hold within each stratum and overall, to within one subject. Members of one
    family (see `families_of`) go together, in the stratum of the first of them by name: then to within one family.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(SPLITS))
    result: dict[str, Split] = {}
    together: dict[str, list[str]] = {}
    for subject in sorted(strata):
        family = (families or {}).get(subject)
        together.setdefault(f"subject {subject}" if family is None else f"family {family}", []).append(subject)
    units = {members[0]: members for members in together.values()}
    for group in sorted({str(stratum) for stratum in strata.values()}):
        firsts = sorted(first for first in units if str(strata[first]) == group)
        for rank in rng.permutation(len(firsts)):
            members = units[firsts[rank]]
            behind = np.array(SHARES) * (counts.sum() + len(members)) - counts
            chosen = int(np.argmax(behind))
            counts[chosen] += len(members)
            result.update(dict.fromkeys(members, SPLITS[chosen]))
    return dict(sorted(result.items()))


def families_of(cases: Sequence[Case]) -> dict[str, str]:
    """The family of each subject that has one (`participant["family"]`), for `three_way`.

    Raises:
        ValueError: a subject with two families.
    """
    found: dict[str, str] = {}
    for case in cases:
        family = case.participant.get("family")
        if known(family) and found.setdefault(case.subject, str(family)) != str(family):
            raise ValueError(f"{case.subject} has the families {found[case.subject]} and {family}; keep one")
    return found


def thirds(values: Mapping[str, float]) -> dict[str, int]:
    """Low, middle or high third (0, 1, 2) of each subject's value, to stratify by a number."""
    edges = np.quantile(list(values.values()), [1 / 3, 2 / 3])
    return {subject: int(np.searchsorted(edges, value)) for subject, value in values.items()}


def training_cases(task: Task, fraction: float, seed: int) -> tuple[Case, ...]:
    """The training cases of a share of the training subjects, stratified and nested.

    The strata are the classes, event or not, or the thirds of the target; each stratum's subjects are put in an order
    drawn from `seed` and the first `fraction` of them (at least one) are taken, so smaller fractions lie inside larger.

    Raises:
        ValueError: fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected more than 0 and at most 1")
    cases = task.cases_of("train")
    strata = strata_of(task, cases)
    rng = np.random.default_rng([seed, 1])
    chosen: set[str] = set()
    for group in sorted({str(s) for s in strata.values()}):
        members = sorted(subject for subject, stratum in strata.items() if str(stratum) == group)
        order = rng.permutation(len(members))
        chosen |= {members[i] for i in order[: max(1, round(fraction * len(members)))]}
    return tuple(case for case in cases if case.subject in chosen)


def strata_of(task: Task, cases: Sequence[Case]) -> dict[str, object]:
    """What subjects are stratified by: class, event, or third of the value; nothing for segmentation."""
    if task.kind == "segmentation":
        return {case.subject: "all" for case in cases}
    column = task.target[-1]
    values = {case.subject: case.participant[column] for case in cases}
    if task.kind == "regression":
        return dict(thirds({subject: float(str(value)) for subject, value in values.items()}))
    return dict(values)
