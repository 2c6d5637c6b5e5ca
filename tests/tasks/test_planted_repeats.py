"""Manifests in which people are in it twice: no task puts them on two sides, no corpus takes them in unnoticed."""

import numpy as np
import pandas as pd
import pytest

from braindino import catalog
from braindino.corpus.audit import LeakageError, overlaps, refuse_leakage
from braindino.tasks import families_of, three_way
from faults import Count, attempts
from trees import sheet


def manifest(path, rng):
    """20 to 40 people; some with two sessions, some in families, rows in any order."""
    people = [f"s{number:02d}" for number in range(rng.integers(20, 40))]
    rows = [[f"{name}.nii", name, "T1w", "1", f"f{number // 2}" if number < 10 else ""]
            for number, name in enumerate(people)]  # fmt: skip
    repeats = rng.choice(people, rng.integers(1, 6), replace=False)
    rows += [[f"{name}-again.nii", name, "T1w", "2", ""] for name in repeats]
    sheet(path, ["path", "subject", "contrast", "session", "family"], [rows[n] for n in rng.permutation(len(rows))])
    for row in rows:
        (path.parent / row[0]).touch()
    return people, set(repeats)


def test_repeats_in_a_manifest_stay_on_one_side(tmp_path):
    count = Count(11, "manifests with people in it twice or in families, split three ways")
    for number in attempts(20, 500):
        rng = np.random.default_rng([11, number])
        people, repeats = manifest(tmp_path / "people.csv", rng)
        cases = catalog.load("cohorts", "csv").cases(tmp_path / "people.csv", lambda line: None)
        assert sorted({case.subject for case in cases}) == people and len(cases) == len(people) + len(repeats)
        families = families_of(cases)
        split = three_way({case.subject: "all" for case in cases}, number, families)
        sides = {family: {split[s] for s, own in families.items() if own == family} for family in families.values()}
        together = set(split) == set(people) and all(len(found) == 1 for found in sides.values())
        count.refused, count.silent = count.refused + together, count.silent + (not together)
    count.done()


def test_repeats_between_corpus_and_test_cohort_are_all_named():
    """Under the same name, under another name with the same voxels, or by a crosswalk."""
    count = Count(11, "corpora with planted people of a test cohort")
    for number in attempts(20, 500):
        rng = np.random.default_rng([12, number])
        pictures = rng.standard_normal((60, 8, 8, 8)).astype(np.float16)
        pictures /= np.linalg.norm(pictures.reshape(60, -1).astype(np.float32), axis=1)[:, None, None, None]
        rows = [("c", f"s{n:02d}", f"{n:016x}") for n in range(60)]
        mine = pd.DataFrame(rows[:40], columns=["cohort", "subject", "voxel_hash"])
        planted = rng.choice(40, rng.integers(1, 8), replace=False)
        theirs, crosswalk = rows[40:], []
        for n in planted:
            kind = rng.integers(3)
            name = f"s{n:02d}" if kind == 0 else f"t{n:02d}"
            theirs.append(("c", name, f"{n:016x}" if kind == 1 else f"{1000 + n:016x}"))
            crosswalk += [(f"c/s{n:02d}", f"c/{name}")] if kind == 2 else []
        others = pd.DataFrame(theirs, columns=mine.columns)
        seen = np.concatenate([pictures[40:], rng.permutation(pictures[40:])[: len(planted)]])
        found = overlaps(mine, pictures[:40], others, seen, place="trial", crosswalk=crosswalk)
        with pytest.raises(LeakageError):
            refuse_leakage(found, ())
        named = set(found["subject"]) == {f"c/s{n:02d}" for n in planted}
        refuse_leakage(found, sorted(set(found["subject"])))
        count.refused, count.silent = count.refused + named, count.silent + (not named)
    count.done()
