"""Families stay together in the three-way split; where there are none, the split is the one that it always was."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindino import catalog
from braindino.tasks import families_of, three_way
from braindino.types import SPLITS, Case, Scan
from people import question

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")


def cases(count=60, **row):
    rng = np.random.default_rng(0)
    result = []
    for number in range(count):
        subject = f"s{number:03d}"
        scans = tuple(Scan("c", subject, c, Path(f"{subject}_{c}"), label_map=Path("x")) for c in CONTRASTS)
        facts = {"age": float(rng.uniform(20, 90)), "diagnosis": "healthy", "survival_days": 5.0, "event": number % 2}
        result.append(Case(subject, scans, participant={**facts, **row}))
    return tuple(result)


def test_without_families_the_split_of_before():
    strata = {f"s{n:03d}": "abc"[n % 3] for n in range(100)}
    text = " ".join(f"{subject}:{split}" for subject, split in three_way(strata, 3).items())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "aecddabfda35bce1"
    assert three_way(strata, 3, {}) == three_way(strata, 3)
    alone = {subject: f"family of {subject}" for subject in strata}
    assert three_way(strata, 3, alone) == three_way(strata, 3)


@settings(max_examples=50)
@given(
    st.dictionaries(st.integers(0, 99), st.tuples(st.sampled_from("xyz"), st.integers(0, 12)), min_size=8),
    st.integers(0, 9),
)
def test_no_family_is_ever_in_two_splits(people, seed):
    strata = {f"s{n:02d}": stratum for n, (stratum, _) in people.items()}
    families = {f"s{n:02d}": f"f{family}" for n, (_, family) in people.items() if family}
    split = three_way(strata, seed, families)
    assert set(split) == set(strata)
    for family in set(families.values()):
        assert len({split[subject] for subject, of in families.items() if of == family}) == 1


def test_shares_hold_to_within_a_family():
    strata = {f"s{n:03d}": "ab"[n % 2] for n in range(300)}
    families = {subject: f"f{number // 4}" for number, subject in enumerate(strata)}
    counts = Counter(three_way(strata, 0, families).values())
    assert [counts[split] for split in SPLITS] == pytest.approx([150, 45, 105], abs=4)


@pytest.mark.parametrize("name", catalog.names("tasks"))
def test_every_task_keeps_families_together(name):
    task = question(name, family=5)
    sides = {}
    for case in task.cases:
        sides.setdefault(case.participant["family"], set()).add(task.split[case.subject])
    assert len(sides) > 8 and {len(side) for side in sides.values()} == {1}


def test_one_subject_has_one_family():
    first, *_ = cases(1, family="f1")
    assert families_of([first, replace(first, session="2", participant={})]) == {"s000": "f1"}
    with pytest.raises(ValueError, match="s000 has the families f1 and f2; keep one"):
        families_of([first, replace(first, session="2", participant={"family": "f2"})])


def test_one_person_under_two_names_is_a_family():
    def case(cohort, subject, **row):
        return Case(subject, (Scan(cohort, subject, "T1w", Path("x")),), participant=row)

    found = families_of(
        [
            case("ucsf_pdgm", "u1", also_in="brats2021/b1"),
            case("brats2021", "b1"),
            case("upenn_gbm", "p1", also_in="brats2021/b9"),  # b9 is not among the cases, but p2 is b9 too
            case("upenn_gbm", "p2", also_in="brats2021/b9", family="f"),
            case("brats2021", "b2", also_in="ucsf_pdgm/u7"),
        ]
    )
    assert found == {"b1": "b1", "u1": "b1", "p1": "f", "p2": "f"}


@pytest.mark.parametrize(("scheme", "enhancing"), [("brats2021", 4), ("brats2023", 3)])
def test_regions_follow_the_label_scheme(scheme, enhancing):
    build = catalog.load("tasks", "tumour_segmentation").build
    for group in ("glioma", "metastasis", "meningioma", "tumour"):
        task = build("c", cases(label_scheme=scheme, group=group), 0)
        assert task.regions == {"WT": (1, 2, enhancing), "TC": (1, enhancing), "ET": (enhancing,)}
    assert build("c", cases(), 0).regions["ET"] == (3,)


def test_mixed_and_strange_label_schemes_are_refused():
    build = catalog.load("tasks", "tumour_segmentation").build
    mixed = (*cases(label_scheme="brats2021")[:30], *cases(label_scheme="brats2023")[30:])
    with pytest.raises(ValueError, match="label_scheme is brats2021 and brats2023, expected one"):
        build("c", mixed, 0)
    for scheme in ("lesion", "fets"):
        with pytest.raises(ValueError, match=f"label_scheme is {scheme}, expected one of"):
            build("c", cases(label_scheme=scheme), 0)
