"""Predictions tables made up for `score`, and a row of what it says."""

import numpy as np
import pandas as pd

N = 60


def rows(kind, encoder, *, gain=1.0, seed=0, metric=None, head="linear", n=N, per_subject=1, **identity):
    """A predictions table; the same cases and targets for every encoder."""
    truth, noise = np.random.default_rng(0), np.random.default_rng([seed, *map(ord, encoder + head)])
    metric = metric or {"classification": "roc_auc", "regression": "mae", "survival": "concordance_index"}.get(kind)
    case = np.arange(n)
    table = pd.DataFrame(
        {
            **{"task": f"{kind}_task", "kind": kind, "metric": metric or "dice", "encoder": encoder, "head": head},
            **{"fraction": 1.0, "seed": seed, "perturbation": "none", "severity": 0, "split": "test"},
            "subject": [f"sub-{i // per_subject:03d}" for i in case],
            "case": [f"sub-{i // per_subject:03d}_{i % per_subject}" for i in case],
            **{"site": "A", "status": "ok"},
        }
    )
    hidden = truth.normal(size=n)
    said = gain * hidden + noise.normal(size=n)
    if kind == "classification":
        p = 1 / (1 + np.exp(-said))
        table = table.assign(target=np.where(hidden > 0, "CN", "AD"), output_AD=1 - p, output_CN=p)
    elif kind == "regression":
        table = table.assign(target=60 + 10 * hidden, output=60 + 10 * said)
    elif kind == "survival":
        table = table.assign(time=np.exp(-hidden) * 100, event=(case % 3 > 0).astype(int), output=said)
    else:
        overlap = 1 / (1 + np.exp(-said))
        table = table.assign(output_whole_dice=overlap, output_whole_hd95_mm=10 * (1 - overlap))
        table = table.assign(output_core_dice=overlap / 2, output_core_hd95_mm=12.0)
    return table.assign(**identity)


def value(scores, metric, encoder="a", **where):
    chosen = scores.metrics.query("metric == @metric and encoder == @encoder")
    for name, wanted in where.items():
        chosen = chosen[chosen[name] == wanted]
    assert len(chosen) == 1
    return chosen.iloc[0]
