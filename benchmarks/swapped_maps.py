"""Segmentation where subjects have exchanged their label maps, for `chance.py`.

The map of another subject is stretched from the bounding box of its brain to that of the brain at hand, nearest voxel,
and cut to that brain. So it says where lesions lie and how large they are, and nothing about this image.

Chance is not 0: a head may learn at which places lesions are frequent, and answer with those. It is the Dice of the
same answers with the maps that the other test subjects were given, each stretched to this brain. Which of the test
subjects was given which of these maps is random, whatever was learned, so the mean difference is 0 if nothing leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino import catalog
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score
from braindino.progress import progress
from braindino.record import fingerprint_of, is_done, read_table, write_record, write_table
from braindino.stats.surfaces import dice
from braindino.tasks import strata_of, three_way
from braindino.types import Encoder, Task, Volume
from braindino.volume.io import as_stored, read_case, read_labels, write_nifti
from braindino.volume.resample import bounding_box

SUBJECTS = 40
STEPS = 300
"""Fewer teach the convolutional heads nothing, also on true label maps."""
OTHERS = "others' maps"


def dense_rows(work: Path, cohort: Path, encoder: Encoder, permutations: int) -> pd.DataFrame:
    """Dice minus Dice with the maps of others, of every dense head on every permutation; 0: with their own maps."""
    whole = load_task("tumour_segmentation", cohort, "synthetic")
    task = replace(whole, cases=whole.cases[:SUBJECTS])
    volumes = {case.name: read_case(case.scans[:1]) for case in task.cases}
    rows = []
    known = [name for name in catalog.names("heads") if name != "prior"]
    heads = [name for name in known if "segmentation" in catalog.load("heads", name).Fitted.kinds]
    with progress("cells of segmentation", len(heads) * (permutations + 1)) as advance:
        for number in range(permutations + 1):
            givers = drawn_givers(task, number)
            asked = exchanged(task, number, givers, volumes, work / "maps" / str(number))
            for head in heads:
                out = work / "cells" / f"{task.name}-{number}-{head}"
                config = {"permutation": number, "head": head, "steps": STEPS, "subjects": len(task.cases)}
                parents = {"cohort": fingerprint_of(cohort), "encoder": encoder.digest()}
                if not is_done(out, "score", config, parents):
                    own = predict(asked, encoder, fit(asked, encoder, head, seed=number, steps=STEPS), out=out).table
                    other = others(asked, own, givers, volumes, out / "label_maps")
                    row = gain(asked, own, other)
                    about = {"task": task.name, "encoder": encoder.name, "head": head, "permutation": number}
                    write_table(out / "scores.tsv", pd.DataFrame([{**about, **row}]))
                    write_record(out, "score", config, parents=parents)
                rows.append(read_table(out / "scores.tsv", text=("task", "encoder", "head", "metric")))
                advance()
    return pd.concat(rows, ignore_index=True)


def drawn_givers(task: Task, number: int) -> dict[str, str]:
    """Case to the case whose label map it is given, never its own; 0: its own."""
    names = [case.name for case in task.cases]
    order = np.random.default_rng([number, 5]).permutation(names).tolist()
    return dict(zip(order, np.roll(order, min(number, 1)).tolist(), strict=True))


def exchanged(task: Task, number: int, givers: Mapping[str, str], volumes: Mapping[str, Volume], folder: Path) -> Task:
    """The task in which every case has the label map of its giver, and a split of its own."""
    split = three_way(strata_of(task, task.cases), number)
    if number == 0:
        return replace(task, split=split)
    cases = []
    for case in task.cases:
        to, path = volumes[case.name], folder / f"{case.name}_dseg.nii.gz"
        if not path.is_file():
            stored, affine = as_stored(stretched(volumes[givers[case.name]], to), to)
            write_nifti(path, stored, affine)
        cases.append(replace(case, scans=tuple(replace(scan, label_map=path) for scan in case.scans)))
    return replace(task, cases=tuple(cases), split=split)


def stretched(giver: Volume, to: Volume) -> np.ndarray:
    """The label map of `giver` on the grid of `to`, so that the boxes of both brains coincide; 0 outside of `to`'s."""
    assert giver.label_map is not None and giver.brain_mask is not None and to.brain_mask is not None
    found = np.zeros(to.brain_mask.shape, np.uint8)
    box, source = bounding_box(to.brain_mask), giver.label_map[bounding_box(giver.brain_mask)]
    size = found[box].shape
    places = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, source.shape, strict=True)]
    found[box] = source[np.ix_(*places)]
    return np.where(to.brain_mask, found, 0).astype(np.uint8)


def others(
    task: Task, own: pd.DataFrame, givers: Mapping[str, str], volumes: Mapping[str, Volume], folder: Path
) -> pd.DataFrame:
    """The same table with Dice against the maps that the other test subjects were given, mean over them.

    The case's own true map is not among them, as it is never what the case itself was given.
    """
    table = own.assign(encoder=OTHERS)
    for place, name in table["case"].items():
        answer = read_labels(folder / f"{name}_dseg.nii.gz", volumes[name])
        from_whom = {givers[case.name] for case in task.cases_of("test")} - {name, givers[name]}
        maps = [stretched(volumes[giver], volumes[name]) for giver in sorted(from_whom)]
        for region, labels in task.regions.items():
            said = np.isin(answer, labels)
            table.loc[place, f"output_{region}_dice"] = np.mean([dice(np.isin(m, labels), said) for m in maps])
    return table


def gain(task: Task, own: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """Difference of the mean Dice by `score`, and both values."""
    dices = [f"output_{region}_dice" for region in task.regions]
    plain = [*dict.fromkeys(c for c in own if not str(c).startswith("output_"))]
    kept = [c for c in plain if c not in ("site", "sex", "age", "contrasts")] + dices
    scores = score([own[kept], other[kept]])
    pair, metrics = scores.comparisons.iloc[0], scores.metrics[scores.metrics["metric"] == "dice"]
    sign = -1 if str(pair["a"]).startswith(OTHERS) else 1
    ends = sorted(sign * pair[name] for name in ("low", "high"))
    levels = dict(zip(metrics["encoder"], metrics["value"], strict=True))
    chance = levels.pop(OTHERS)
    return {
        **{"metric": "dice_gain", "value": sign * pair["difference"], "low": ends[0], "high": ends[1]},
        **{"subjects": int(pair["subjects"]), "dice": next(iter(levels.values())), "dice_others": chance},
    }
