"""Manifests in which people are in it twice: no task puts them on two sides."""

import numpy as np

from braindino import catalog
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
