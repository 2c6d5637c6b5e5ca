"""ComBat's posterior shift and scale beside those of neuroCombat (MIT; used by nothing but this file).

    pip install --no-deps --target PEER neuroCombat==0.2.12
    PYTHONPATH=PEER python benchmarks/combat_peer.py --out benchmarks/results/combat_peer.tsv

The data are those of tests/fitting/test_combat.py, which compares itself with this table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from braindino.fitting.combat import fit_combat
from braindino.record import write_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fitting"))


def main() -> None:
    from neuroCombat import neuroCombat
    from test_combat import draw

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    x, sites, y = draw(90, 5, tilt=0.2)
    covars = pd.DataFrame({"site": sites, "y": y})
    theirs = neuroCombat(x.T, covars, "site", continuous_cols=["y"])["estimates"]
    names = np.unique(sites)
    shift, scale = np.asarray(theirs["gamma.star"]), np.asarray(theirs["delta.star"])
    ours = fit_combat(x, sites, y[:, None])
    print("largest difference of the shift:", np.abs(ours.shift - shift).max())
    print("largest relative difference of the squared scale:", np.abs(ours.scale**2 / scale - 1).max())
    if options.out:
        rows = [
            {"site": name, "feature": feature, "gamma_star": shift[site, feature], "delta_star": scale[site, feature]}
            for site, name in enumerate(names)
            for feature in range(x.shape[1])
        ]
        write_table(options.out, pd.DataFrame(rows))


if __name__ == "__main__":
    main()
