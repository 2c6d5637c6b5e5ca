"""Tasks: a question with a known answer for each case. One file each, about 25 lines.

Contract: a module defines `build(cohort: str, cases: tuple[Case, ...], seed: int) -> Task`, with the three-way split
drawn from `seed`; `divided` makes the other protocols of it. The seed of the split, the seed of a draw of training
subjects (`training_cases`) and that of a head are different things: no draw moves a subject between splits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from braindino.types import SPLITS, Case, Split, Task

SHARES = (0.5, 0.15, 0.35)
"""Shares of the subjects for train, validation and test."""
PAPER_SHARES = (0.75, 0.25)
"""Shares for train and validation in the paper's two-way protocol, as far as its sizes can be told (docs/tasks.md)."""
FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The paper's shares of the training subjects."""
DRAWS = 5
"""At least so many draws (seeds 0, 1, ...) stand behind a number at a fraction below 1."""
UNKNOWN = "unknown"
"""The contrast of a scan of which the encoder shall not be told what it is."""


def known(value: object) -> bool:
    """True where a cell of the participants table holds a value (not missing, not NaN, not `n/a`)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return str(value) not in ("", "n/a", "nan")


def select(cases: Iterable[Case], contrasts: Sequence[str], columns: Sequence[str], what: str) -> tuple[Case, ...]:
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


def classification(
    name: str,
    cohort: str,
    cases: Iterable[Case],
    seed: int,
    *,
    column: str,
    contrasts: tuple[str, ...],
    source: str,
    classes: tuple[str, ...] = (),
) -> Task:
    """The task of telling the classes of a column apart, split three ways and stratified by class.

    Args:
        name: of the task.
        cohort: name of the cohort.
        cases: of which those with every contrast and a class are taken.
        seed: of the split.
        column: of the participants table.
        contrasts: what the encoder sees.
        source: which task of the paper this is.
        classes: only these, and each of them must be there; default: all that the column holds.

    Raises:
        ValueError: as `select`, or a class without a subject.
    """
    known_cases = [case for case in cases if not classes or str(case.participant.get(column)) in classes]
    _all_there(name, column, classes, known_cases)
    chosen = select(known_cases, contrasts, (column,), name)
    _all_there(name, column, classes, chosen)
    labels = {case.subject: str(case.participant[column]) for case in chosen}
    return Task(
        name=name,
        kind="classification",
        cohort=cohort,
        contrasts=contrasts,
        target=(column,),
        unit="class",
        metric="roc_auc",
        source=source,
        cases=chosen,
        split=three_way(labels, seed, families_of(chosen)),
        classes=tuple(sorted({str(case.participant[column]) for case in chosen})),
    )


def _all_there(name: str, column: str, classes: Sequence[str], cases: Sequence[Case]) -> None:
    found = {str(case.participant[column]) for case in cases if column in case.participant}
    if absent := sorted(set(classes) - found):
        raise ValueError(
            f"task {name}: no scan of a subject whose {column} is {' or '.join(absent)}; it tells "
            f"{', '.join(classes)} apart, so take a cohort that has them (docs/tasks.md)"
        )


def scan_by_scan(cases: Iterable[Case]) -> tuple[Case, ...]:
    """A case for each scan, whose session ends in its contrast, with the contrast as participant column `contrast`.

    The scan itself is then of the contrast `UNKNOWN`, so that no encoder is told what it should find out.
    """
    result = []
    for case in cases:
        for scan in case.scans:
            session = f"{case.session}_{scan.contrast}" if case.session else scan.contrast
            row = {**case.participant, "contrast": scan.contrast}
            result.append(Case(case.subject, (replace(scan, contrast=UNKNOWN),), session, case.site, row))
    return tuple(result)


def share_out(
    strata: Mapping[str, object], shares: Sequence[float], seed: int, families: Mapping[str, str] | None = None
) -> dict[str, int]:
    """The part (0, 1, ...) of each subject, stratified; the same for the same subjects, families and seed.

    Subjects are taken stratum by stratum, in random order within each; the next one goes to the part that lies
    furthest behind its share. So shares hold within each stratum and overall, to within one subject. Members of one
    family (see `families_of`) go together, in the stratum of the first of them by name: then to within one family.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(shares))
    result: dict[str, int] = {}
    together: dict[str, list[str]] = {}
    for subject in sorted(strata):
        family = (families or {}).get(subject)
        together.setdefault(f"subject {subject}" if family is None else f"family {family}", []).append(subject)
    units = {members[0]: members for members in together.values()}
    for group in sorted({str(stratum) for stratum in strata.values()}):
        firsts = sorted(first for first in units if str(strata[first]) == group)
        for rank in rng.permutation(len(firsts)):
            members = units[firsts[rank]]
            behind = np.array(shares) * (counts.sum() + len(members)) - counts
            chosen = int(np.argmax(behind))
            counts[chosen] += len(members)
            result.update(dict.fromkeys(members, chosen))
    return dict(sorted(result.items()))


def three_way(strata: Mapping[str, object], seed: int, families: Mapping[str, str] | None = None) -> dict[str, Split]:
    """Train, validation or test for each subject, by `share_out` with `SHARES`."""
    return {subject: SPLITS[part] for subject, part in share_out(strata, SHARES, seed, families).items()}


def divided(task: Task, protocol: str, seed: int) -> Task:
    """The task under another protocol, by which it is labelled from then on.

    - `three_way`: as it was built.
    - `paper`: train and validation by `PAPER_SHARES`, no test: settings are chosen on the set that is reported.
    - `site:NAME`: test is that site, the other subjects are train and validation in the proportion of `SHARES`.
      Whoever was scanned there, and their family, are on the side of test with their scans of that site alone.

    Raises:
        ValueError: an unknown protocol, or a site without cases or without enough others to train on.
    """
    if protocol == "three_way":
        return task
    strata, families = strata_of(task, task.cases), families_of(task.cases)
    if protocol == "paper":
        parts = share_out(strata, PAPER_SHARES, seed, families)
        return replace(task, split={name: SPLITS[part] for name, part in parts.items()}, protocol=protocol)
    kind, _, site = protocol.partition(":")
    if kind != "site" or not site:
        raise ValueError(f"protocol is {protocol!r}, expected three_way, paper or site:NAME")
    there = {case.subject for case in task.cases if case.site == site}
    if not there:
        sites = ", ".join(sorted({case.site for case in task.cases if case.site})) or "none"
        raise ValueError(f"task {task.name} has no case of site {site!r}; its sites: {sites}")
    kin = {families[subject] for subject in there if subject in families}
    apart = there | {subject for subject, family in families.items() if family in kin}
    rest = {subject: stratum for subject, stratum in strata.items() if subject not in apart}
    if len(rest) < 8:
        raise ValueError(f"task {task.name}: {len(rest)} subjects are not of site {site!r}; at least 8 are needed")
    parts = share_out(rest, [share / sum(SHARES[:2]) for share in SHARES[:2]], seed, families)
    split: dict[str, Split] = {name: SPLITS[part] for name, part in parts.items()}
    split |= dict.fromkeys(there, SPLITS[2])
    cases = tuple(case for case in task.cases if case.subject not in apart or case.site == site)
    return replace(task, cases=cases, split=dict(sorted(split.items())), protocol=protocol)


def reported(task: Task) -> Split:
    """The split whose numbers are reported: test, but for the paper's protocol, which has none."""
    return reported_under(task.protocol)


def reported_under(protocol: str) -> Split:
    """The split whose numbers a protocol reports."""
    return "validation" if protocol == "paper" else "test"


def families_of(cases: Sequence[Case]) -> dict[str, str]:
    """The family of each subject that has one, for `share_out`.

    A family are those with one `participant["family"]`, and the names of one person: who is `also_in` the cases
    under another name, or in a third place that another subject is in too.

    Raises:
        ValueError: a subject with two families.
    """
    named: dict[str, str] = {}
    groups: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for case in cases:
        family, other = case.participant.get("family"), case.participant.get("also_in")
        if known(family) and named.setdefault(case.subject, str(family)) != str(family):
            raise ValueError(f"{case.subject} has the families {named[case.subject]} and {family}; keep one")
        nodes = {("subject", case.subject), *(("person", f"{s.cohort}/{s.subject}") for s in case.scans)}
        nodes |= ({("family", str(family))} if known(family) else set()) | (
            {("person", str(other))} if known(other) else set()
        )
        merged = nodes.union(*(groups[node] for node in nodes if node in groups))
        groups.update(dict.fromkeys(merged, merged))
    found: dict[str, str] = {}
    for subject in sorted({case.subject for case in cases}):
        group = groups["subject", subject]
        families = sorted(name for kind, name in group if kind == "family")
        people = sorted(name for kind, name in group if kind == "subject")
        if families or len(people) > 1:
            found[subject] = (families or people)[0]
    return found


def thirds(values: Mapping[str, float]) -> dict[str, int]:
    """Low, middle or high third (0, 1, 2) of each subject's value, to stratify by a number."""
    edges = np.quantile(list(values.values()), [1 / 3, 2 / 3])
    return {subject: int(np.searchsorted(edges, value)) for subject, value in values.items()}


def training_cases(task: Task, fraction: float, seed: int) -> tuple[Case, ...]:
    """The training cases of a share of the training subjects, stratified and nested.

    The strata are the classes, event or not, or the thirds of the target; each stratum's subjects are put in an order
    drawn from `seed` and the first `fraction` of them (at least one) are taken, so smaller fractions lie inside larger.

    Args:
        task: whose split stays as it is.
        fraction: of the training subjects, usually one of `FRACTIONS`.
        seed: of the draw; the seed of the split has no part in it. Use at least `DRAWS` of them.

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


def learned(task: Task, target: np.ndarray) -> np.ndarray:
    """What a head learns of the targets: ln(1 + target) where `task.transform` is `log1p`.

    Raises:
        ValueError: a target of -1 or less, which has no such logarithm.
    """
    if task.transform == "none":
        return target
    if target.min(initial=0.0) <= -1:
        raise ValueError(f"task {task.name}: {task.target[0]} is {target.min():g}; log1p needs more than -1")
    return np.asarray(np.log1p(target))


def answered(task: Task, output: np.ndarray) -> np.ndarray:
    """A head's outputs in the unit of the task: exp(output) - 1 where `task.transform` is `log1p`.

    It rises with the output, so the ends of an interval become the ends of one.
    """
    return output if task.transform == "none" else np.asarray(np.expm1(output))
