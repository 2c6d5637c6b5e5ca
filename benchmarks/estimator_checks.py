"""How many of scikit-learn's estimator checks does each head pass?

    OMP_NUM_THREADS=1 python benchmarks/estimator_checks.py --out benchmarks/results/estimator_checks.tsv

`sklearn.utils.estimator_checks.check_estimator` on `HeadClassifier` and `HeadRegressor` around each head; a row per
head and kind with the numbers of checks run, passed, skipped (by scikit-learn), expected to fail and failed, and the
names of the last two.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import sklearn
from sklearn.utils.estimator_checks import check_estimator

from braindino.pipeline.head_estimators import EXPECTED, HEADS, HeadClassifier, HeadRegressor
from braindino.record import write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for kind, names in HEADS.items():
        for name in names:
            estimator = (HeadClassifier if kind == "classification" else HeadRegressor)(name)
            found = check_estimator(estimator, on_fail=None, expected_failed_checks=EXPECTED.get((kind, name), {}))
            rows.append({"head": name, "kind": kind, "run": len(found), **counted(found)})
            print(rows[-1], flush=True)
    if options.out:
        table = pd.DataFrame(rows)
        table.insert(0, "scikit_learn", sklearn.__version__)
        write_table(options.out, table)


def counted(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Checks by their ending; those that did not pass by name."""
    endings = {"passed": "passed", "skipped": "skipped", "xfail": "expected_to_fail", "failed": "failed"}
    counts = {name: sum(one["status"] == status for one in found) for status, name in endings.items()}
    which = sorted({one["check_name"] for one in found if one["status"] in ("xfail", "failed")})
    return {**counts, "not_passed": ", ".join(which)}


if __name__ == "__main__":
    main()
