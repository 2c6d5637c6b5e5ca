"""The paper's two-way protocol and leave-one-site-out: labelled, by subject and family, stratified, repeatable."""

from collections import Counter
from dataclasses import replace

import pytest

from braindino.tasks import divided, reported, strata_of
from people import cases, question


def test_the_papers_protocol_has_no_test_and_says_so():
    before = question("diagnosis")
    task = divided(before, "paper", 0)
    assert (before.protocol, reported(before)) == ("three_way", "test")
    assert (task.protocol, reported(task)) == ("paper", "validation")
    assert Counter(task.split.values()) == {"train": 45, "validation": 15} and task.cases == before.cases
    strata = strata_of(task, task.cases)
    dementia = [task.split[subject] for subject, value in strata.items() if value == "dementia"]
    assert Counter(dementia) == {"train": 15, "validation": 5}
    assert divided(question("diagnosis", order=-1), "paper", 0).split == task.split
    assert divided(before, "paper", 1).split != task.split
    assert divided(before, "three_way", 7) is before


def test_leave_one_site_out():
    task = divided(question("diagnosis"), "site:b", 0)
    assert task.protocol == "site:b" and reported(task) == "test"
    assert {case.site for case in task.cases_of("test")} == {"b"} and len(task.cases_of("test")) == 20
    assert {case.site for split in ("train", "validation") for case in task.cases_of(split)} == {"a", "c"}
    assert Counter(task.split.values()) == {"test": 20, "train": 31, "validation": 9}
    assert divided(question("diagnosis", order=-1), "site:b", 0).split == task.split
    for site in "ac":
        assert not {c.subject for c in divided(task, f"site:{site}", 0).cases_of("test")} & set(
            c.subject for c in task.cases_of("test")
        )


def test_who_was_at_the_site_or_is_a_relative_is_never_trained_on():
    """s000 and s003 are of site a, s010 of site b; s010 came back at site a, s020 (site c) is the brother of s000."""
    task = question("diagnosis")
    again = replace(next(c for c in task.cases if c.subject == "s010"), session="2", site="a")
    rows = {"s000": "kin", "s020": "kin"}
    found = [
        replace(c, participant={**c.participant, "family": rows[c.subject]}) if c.subject in rows else c
        for c in (*task.cases, again)
    ]
    left = divided(replace(task, cases=tuple(found)), "site:a", 0)
    assert {"s000", "s003", "s010"} <= {case.subject for case in left.cases_of("test")}
    assert {case.site for case in left.cases_of("test")} == {"a"}
    assert "s020" not in left.split and set(left.split) == {case.subject for case in left.cases}


def test_protocols_that_do_not_exist():
    task = question("diagnosis")
    for wrong in ("two_way", "site:", "site"):
        with pytest.raises(ValueError, match="expected three_way, paper or site:NAME"):
            divided(task, wrong, 0)
    with pytest.raises(ValueError, match="has no case of site 'x'; its sites: a, b, c"):
        divided(task, "site:x", 0)
    few = tuple(replace(case, site="x" if n > 5 else "y") for n, case in enumerate(cases()))
    with pytest.raises(ValueError, match="6 subjects are not of site 'x'"):
        divided(replace(task, cases=few), "site:x", 0)
