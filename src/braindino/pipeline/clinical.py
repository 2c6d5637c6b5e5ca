"""What the participants table tells without any image: age and sex, as features that every head on features takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindino.pipeline.design import TABLE
from braindino.pipeline.encoding import OK, Row
from braindino.pipeline.features import case_table
from braindino.record import digest
from braindino.tasks import known
from braindino.types import Case, Features, Task

NAME = "clinical"
COLUMNS = ("age", "sex=F", "sex=M")


def clinical_features(task: Task) -> Features:
    """Age in years and sex as two columns of 0 and 1, but for the target of the task itself.

    An age that is not known is that of the mean training case; a sex that is not known has 0 in both columns.
    """
    names = [name for name in COLUMNS if name.partition("=")[0] not in task.target]
    ages = [_age(case) for case in task.cases_of("train")]
    typical = float(np.mean([age for age in ages if age is not None] or [0.0]))
    values = np.array([[_value(case, name, typical) for name in names] for case in task.cases], np.float16)
    return Features(
        values=values[:, None],
        position_mm=np.zeros((len(values), 1), np.float32),
        cases=case_table(task.cases, _fine(task.cases)),
        encoder=NAME,
        encoder_digest=digest([names, typical]),
        recipe="participants",
        contrasts=(TABLE,),
        seen=frozenset(),
    )


def _fine(cases: Sequence[Case]) -> list[Row]:
    return [Row(OK)] * len(cases)


def _age(case: Case) -> float | None:
    age = case.participant.get("age")
    return float(str(age)) if known(age) else None


def _value(case: Case, name: str, typical: float) -> float:
    if name == "age":
        age = _age(case)
        return typical if age is None else age
    return float(str(case.participant.get("sex")) == name.partition("=")[2])
