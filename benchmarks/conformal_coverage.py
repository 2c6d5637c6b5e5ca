"""Do intervals and sets hold their promise though the head has looked at the same validation subjects?

    OMP_NUM_THREADS=1 python benchmarks/conformal_coverage.py --out benchmarks/results/conformal_coverage.tsv

Split-conformal theory asks for subjects that nothing was chosen on; here strengths (or, of networks, the moment to
stop) are chosen on the very subjects that give the threshold. Simulated features (100 training, 39 validation, 400
test subjects, 64 features, four of them informative): mean coverage over draws, and its standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from braindino import catalog
from braindino.fitting.conformal import class_scores, fit_conformal
from braindino.record import write_table

SIZES = (100, 39, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="+", default=["linear"], help="for example linear mlp")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.heads:
        for kind in ("classification", "regression"):
            held = np.array([covered(name, kind, seed, options.coverage) for seed in range(options.draws)])
            rows.append({
                "head": name, "kind": kind, "promised": options.coverage, "draws": len(held),
                "found": round(float(held.mean()), 4), "standard_error": round(float(held.std() / len(held) ** 0.5), 4),
            })  # fmt: skip
            print(rows[-1], flush=True)
    if options.out:
        write_table(options.out, pd.DataFrame(rows))


def covered(name: str, kind: str, seed: int, coverage: float) -> float:
    """Share of the test subjects whose truth is held."""
    (x, y), validation, (test, truth) = (draw(kind, size, [seed, part]) for part, size in enumerate(SIZES))
    head = catalog.load("heads", name).fit(x, y, validation, kind=kind, seed=seed)
    scores = [score(kind, head.predict(features), target) for features, target in (validation, (test, truth))]
    return float(np.mean(scores[1] <= fit_conformal(scores[0], np.arange(SIZES[1]), coverage).threshold))


def score(kind: str, output: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.abs(output[:, 0] - target) if kind == "regression" else class_scores(output, target)


def draw(kind: str, n: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 64))
    signal = x[:, :4].sum(1) + rng.normal(size=n)
    return x, signal if kind == "regression" else np.digitize(signal, [-1.0, 1.0])


if __name__ == "__main__":
    main()
