import numpy as np
import pandas as pd
import pytest

from braindino.stats.sheets import Model, Sheet
from braindino.stats.strata import age_band, large_enough, only, strata


def sheet(**about):
    n = 6
    model = Model("a", "linear", 1.0, (0,), (np.arange(6.0),), np.array([True] * 5 + [False]))
    ids = np.array([f"sub-{i}" for i in range(n)])
    return Sheet({"kind": "regression"}, ids, np.arange(6.0) * 10, ("output",), (model,), pd.DataFrame(about))


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "0-19"), (19.9, "0-19"), (20, "20-39"), (71, "60-79"), (80, "80 and older"), (101, "80 and older"),
     (float("nan"), ""), (-1, "")],
)  # fmt: skip
def test_age_bands(age, band):
    assert age_band(float(age)) == band


def test_strata_are_the_levels_of_what_the_table_has():
    found = list(strata(sheet(sex=["F", "M", "F", "M", None, "F"], age=[5, 25, 30, 85, 90, 100.0], site=["A"] * 6)))
    assert [(variable, level) for variable, level, _ in found] == [
        *(("sex", "F"), ("sex", "M")),
        *(("age", "0-19"), ("age", "20-39"), ("age", "80 and older")),
    ]
    part = found[0][2]
    assert part.subjects.tolist() == ["sub-0", "sub-2", "sub-5"] and part.target.tolist() == [0, 20, 50]
    assert part.models[0].outputs[0].tolist() == [0, 2, 5] and part.models[0].ok.tolist() == [True, True, False]
    assert part.about["age"].tolist() == [5, 30, 100]


def test_nothing_to_tell_apart():
    assert list(strata(sheet())) == [] and list(strata(sheet(sex=["F"] * 6))) == []


def test_families_are_clusters():
    whole = sheet(family=["f1", "f1", "", None, "sub-4", "f1"])
    assert len(set(whole.clusters)) == 4 and len(set(whole.clusters[[0, 1, 5]])) == 1
    assert sheet().clusters.tolist() == sheet().subjects.tolist()
    assert len(only(whole, np.arange(6) < 2).clusters) == 2


def people(kind, target, family=None):
    n = len(target)
    model = Model("a", "linear", 1.0, (0,), (np.arange(float(n)),), np.ones(n, bool))
    about = pd.DataFrame({} if family is None else {"family": family}, index=range(n))
    ids = np.array([f"sub-{i}" for i in range(n)])
    return Sheet({"kind": kind}, ids, np.asarray(target), ("one", "other"), (model,), about)


def test_a_test_needs_twenty_subjects_and_five_of_each_class_or_with_the_event():
    assert large_enough(people("regression", np.zeros(20))) and not large_enough(people("regression", np.zeros(19)))
    assert not large_enough(people("regression", np.zeros(20)), np.arange(20) > 0)
    assert large_enough(people("classification", [0] * 15 + [1] * 5))
    assert not large_enough(people("classification", [0] * 16 + [1] * 4))
    time = np.arange(20.0)
    assert large_enough(people("survival", np.stack([time, time < 5], 1)))
    assert not large_enough(people("survival", np.stack([time, time < 4], 1)))
    assert not large_enough(people("regression", np.zeros(20), ["f"] * 2 + [""] * 18)), "a family counts once"
