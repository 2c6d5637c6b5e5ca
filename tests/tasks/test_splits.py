from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindino import catalog
from braindino.tasks import DRAWS, FRACTIONS, known, select, strata_of, three_way, training_cases
from braindino.types import Case
from people import cases, question


@pytest.mark.parametrize("name", catalog.names("tasks"))
def test_every_task_has_a_subject_wise_stratified_three_way_split(name):
    task = question(name)
    assert set(task.split.values()) == {"train", "validation", "test"}
    members = {split: {case.subject for case in task.cases_of(split)} for split in ("train", "validation", "test")}
    assert sum(len(part) for part in members.values()) == len(set.union(*members.values())) == len(task.split)
    assert len(members["train"]) / len(task.split) == pytest.approx(0.5, abs=0.06)
    assert len(members["test"]) / len(task.split) == pytest.approx(0.35, abs=0.06)
    strata = strata_of(task, task.cases)
    for stratum in set(strata.values()):
        of_stratum = [subject for subject, value in strata.items() if value == stratum]
        share = np.mean([task.split[subject] == "test" for subject in of_stratum])
        assert share == pytest.approx(0.35, abs=0.12)
    assert question(name, order=-1).split == task.split
    assert question(name, seed=1).split != task.split


@pytest.mark.parametrize("name", catalog.names("tasks"))
def test_fractions_are_nested_stratified_and_inside_train(name):
    task = question(name)
    for seed in range(3):
        parts = [{c.subject for c in training_cases(task, f, seed)} for f in FRACTIONS]
        assert all(small <= large for small, large in pairwise(parts))
        assert parts[-1] == {case.subject for case in task.cases_of("train")}
        strata = {s: v for s, v in strata_of(task, task.cases_of("train")).items()}
        assert {strata[subject] for subject in parts[0]} == set(strata.values())
    draws = [frozenset(c.subject for c in training_cases(task, 0.4, seed)) for seed in range(DRAWS)]
    assert len(set(draws)) == DRAWS == 5
    assert question(name).split == task.split  # no draw moves anybody
    with pytest.raises(ValueError, match="fraction is 0"):
        training_cases(task, 0.0, 0)


@settings(max_examples=50)
@given(st.dictionaries(st.text("abcdef", min_size=1), st.sampled_from("xyz"), min_size=8), st.integers(0, 9))
def test_no_subject_is_ever_in_two_splits_or_lost(strata, seed):
    assert set(three_way(strata, seed)) == set(strata)


def test_a_subject_with_two_sessions_stays_on_one_side():
    twice = tuple(Case(c.subject, c.scans, session, c.site, c.participant) for c in cases(20) for session in ("1", "2"))
    task = catalog.load("tasks", "diagnosis").build("c", twice, 0)
    sides = Counter()
    for split in ("train", "validation", "test"):
        sides.update({case.subject for case in task.cases_of(split)})
    assert set(sides.values()) == {1} and len(task.cases) == 40


def test_missing_values_and_contrasts_are_left_out():
    some = list(cases(20))
    some[0] = Case("s000", some[0].scans, participant={**some[0].participant, "age": float("nan")})
    some[1] = Case("s001", some[1].scans[1:], participant=some[1].participant)
    assert {c.subject for c in select(some, ("T1w",), ("age",), "t")} == {c.subject for c in some[2:]}
    assert not known("n/a") and not known(None) and not known("") and known(0) and known("healthy")
    with pytest.raises(ValueError, match=r"only 7 subjects have contrasts T1w and columns age; at least 8"):
        select(some[:9], ("T1w",), ("age",), "t")


def test_brain_age_uses_the_healthy():
    task = catalog.load("tasks", "brain_age").build("c", cases(), 0)
    assert {case.participant["diagnosis"] for case in task.cases} == {"healthy"}
