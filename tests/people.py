"""People without images: cases with every participant column that tasks ask for, and each task built on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from braindino import catalog
from braindino.types import Case, Features, Scan

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")
COLUMN = {
    "alzheimer": {"diagnosis": ("healthy", "mci", "dementia")},
    "autism": {"diagnosis": ("autism", "healthy")},
    "parkinson": {"diagnosis": ("parkinson", "healthy")},
}
"""Classes of the tasks that need others than `cases` has."""


def cases(count=60, cohort="c"):
    """Sessions of four contrasts; the diagnosis is dementia for every third, healthy for the others."""
    rng = np.random.default_rng(0)
    result = []
    for number in range(count):
        subject = f"s{number:03d}"
        scans = tuple(Scan(cohort, subject, c, Path(f"{subject}_{c}.nii.gz"), label_map=Path("x")) for c in CONTRASTS)
        row = {
            "age": float(rng.uniform(20, 90)),
            "diagnosis": "dementia" if number % 3 == 0 else "healthy",
            "survival_days": float(rng.exponential(300)),
            "event": int(rng.random() < 0.7),
            "idh": ("wildtype", "mutant")[number % 2],
            "days_since_stroke": 0.25 * 1.15**number,
        }
        result.append(Case(subject, scans, site="abc"[number // 10 % 3], participant=row))
    return tuple(result)


def question(name, *, order=1, seed=0, family=0):
    """The task on these people, in this order, with families of so many in a row."""
    found = []
    for number, case in enumerate(cases()):
        row = {column: classes[number % len(classes)] for column, classes in COLUMN.get(name, {}).items()}
        row |= {"family": f"f{number // family}"} if family else {}
        found.append(replace(case, participant={**case.participant, **row}))
    return catalog.load("tasks", name).build("c", tuple(found[::order]), seed)


def features_of(cases, contrasts, missing=None, views=2, **about):
    """Random features of these cases: as many views of each contrast, NaN for those that a case lacks."""
    rows = [(case.name, case.subject, "", "A", "ok", (missing or {}).get(case.name, "")) for case in cases]
    table = pd.DataFrame(rows, columns=["case", "subject", "session", "site", "status", "missing"])
    values = np.random.default_rng(0).normal(size=(len(cases), views * len(contrasts), 3)).astype(np.float16)
    names = tuple(name for name in contrasts for _ in range(views))
    for row, (*_, lacks) in enumerate(rows):
        values[row, [name in lacks.split() for name in names]] = np.nan
    place = np.tile(np.arange(values.shape[1], dtype=np.float32), (len(cases), 1))
    told = {"encoder": "e", "encoder_digest": "0" * 8, "recipe": "r"} | about
    return Features(values, place, table, contrasts=names, **told)
