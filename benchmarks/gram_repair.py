"""Does stage 2 repair patch tokens? Those of a stage 1 that went bad, by the Gram teacher of its good days.

    python benchmarks/gram_repair.py --work W --out benchmarks/results/gram_repair

Writes OUT.json (the claims) and OUT.tsv (all numbers). Resumable; some 4 minutes of one core for a run.

DINOv3 (arXiv 2508.10104) finds that patch features get better, then worse, over a long stage 1, and repairs them with
a Gram teacher from before the decay. At this size nothing decays by itself (`dense_probe.py`); here the learning rate
makes it: three times that of `tiny_stage1.toml`. Subjects, scans and the linear probe of tissue (CSF, grey, white)
are those of `dense_probe.py`, at the slices' own pixels (patches of 8 mm); chance is 1/3.

**Networks**, ten of each (ten seeds of training), on one corpus of 100 subjects:

- random: weights of another seed;
- stage 1 after 50, 100 (*early*), 150, 200, 250 and 300 (*end*) steps of 32 slices, global crops of 32 px;
- continued: stage 1 goes on from its end at the same crops and batch, with stage 2's steps, optimiser and teacher;
- stage 2: from the end of stage 1, global crops of 48 px, 150 steps of 16 slices, as `tiny_stage2.toml` but for the
  learning rate, which stays stage 1's as in DINOv3, the teacher's momentum, which is stage 1's, and the Gram teacher:
  none; or *early*, with the weight 3 (DINOv3: 2; its crops show that teacher more pixels than the student has).

All are the EMA teachers. Half of 140 other subjects fit the probe, the other half are asked. Accuracies are balanced.
Intervals: 95 %, of the mean over the runs, paired for differences: "low" to "high" by BCa bootstrap over the asked
subjects, "runs_low" to "runs_high" by Student's t over the runs.

**The claim: stage 2 with the early Gram teacher is above stage 1 at its end, and above stage 2 without Gram**, by the
linear probe, whole intervals of both kinds above 0. All other comparisons are given whichever way they fall. Settings
were chosen with one run of each network on subjects of the seeds 1101 and 1102. On 1401 and 1402, with two runs, the
gains were 0.023 [0.010, 0.034] and 0.013 [0.002, 0.023] over subjects, but one of the two runs had nearly all of them;
so this is a new experiment with more runs, on 1501 and 1502 (the corpus and subjects of `dense_probe.py`), run once.

What it cannot show: that a stage 2 with an early teacher is better than to stop stage 1 early (the early teacher is
one of the networks), or that a decay which comes by itself in a long run of a large model is of this kind.
"""

from __future__ import annotations

import argparse
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dense_probe import CONFIGS, MODEL, asked, made_corpus, over_runs, probed

from braindino.config import read_config
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining.checkpoint import load_teacher
from braindino.pretraining.config import PretrainConfig
from braindino.record import RECORD, write_json, write_table

SEEDS = (1501, 1502)
"""Of the subjects (and the draws) of pretraining, and of those that are probed."""
RUNS = 10
SUBJECTS, PROBED = 100, 140
LOW_PX, HIGH_PX, PROBE_PX = 32, 48, 96
LR = 1.5e-2
"""Learning rate of stage 1, and of what comes after it."""
STEPS, EVERY, EARLY = 300, 50, 100
"""Of stage 1: all, between the networks that are looked at, and those of the Gram teacher."""
AFTER, WEIGHT = 150, 3.0
"""Steps of what comes after stage 1; weight of the Gram anchor."""
BATCH = {"low": 32, "high": 16}
REPAIRED, PLAIN, END = "stage 2, early Gram teacher", "stage 2, no Gram", f"stage 1, {STEPS} steps (end)"
EARLY_NAME = f"stage 1, {EARLY} steps (early)"
CLAIMS = ((REPAIRED, END), (REPAIRED, PLAIN))
OTHERS = ((REPAIRED, "continued"), (REPAIRED, EARLY_NAME), (REPAIRED, "random"), (END, EARLY_NAME), (PLAIN, END))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for subjects, corpus and runs; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--seeds", type=int, nargs=2, default=SEEDS, help="of pretraining's subjects, of the probe's")
    parser.add_argument("--runs", type=int, default=RUNS, help="trainings of each network")
    options = parser.parse_args()
    corpus = made_corpus(options.work, options.seeds[0], SUBJECTS)
    images, labels = probed(options.work / "probed.npz", options.seeds[1], PROBED)
    rows, claims, every = [], [], []
    for number in range(options.runs):
        networks = trained(options.work / f"run{number}", corpus, options.seeds[0] + number)
        rights, total = asked(networks, images, labels, PROBE_PX)
        every.append(rights)
    for probe in ("linear", "k-NN"):
        told, claim = over_runs(probe, [rights[probe] for rights in every], total)
        rows += told
        for pair in (*CLAIMS, *OTHERS):
            stated = probe == "linear" and pair in CLAIMS
            claims.append({"probe": probe, "stated": stated} | claim(*pair))
    table = pd.DataFrame(rows)
    write_table(options.out.with_suffix(".tsv"), table)
    settings = {"seeds": list(options.seeds), "runs": options.runs, "steps": STEPS, "after": AFTER, "weight": WEIGHT}
    write_json(options.out.with_suffix(".json"), {"settings": settings, "claims": claims})
    print(table.to_string(index=False, float_format="%.3f"))
    for claim in claims:
        print(f"{'shown' if claim['shown'] else 'not shown'}: {claim}")


def trained(work: Path, corpus: Path, seed: int) -> dict[str, VisionTransformer]:
    """The networks of one seed of training, by name."""
    first, second = (read_config(CONFIGS / f"tiny_stage{n}.toml", PretrainConfig) for n in (1, 2))
    common: dict[str, Any] = {"corpus": corpus, "exclude": (), "model": MODEL, "seed": seed}
    low = replace(first.crops, global_px=LOW_PX, local_px=LOW_PX // 2)
    high = replace(second.crops, global_px=HIGH_PX, local_px=HIGH_PX // 2, gram_px=HIGH_PX)
    one = replace(first, crops=low, steps=STEPS, batch_size=BATCH["low"], **common)
    compute = replace(one.compute, checkpoint_every=EVERY)
    with copied(work / "stage1" / "checkpoints", work / "kept"):
        pretrain(replace(one, optim=replace(one.optim, lr=LR), compute=compute), work / "stage1")
    networks = {"random": VisionTransformer(MODEL, torch.Generator().manual_seed(1000 + seed)).eval()}
    for step in range(EVERY, STEPS + 1, EVERY):
        name = {EARLY: EARLY_NAME, STEPS: END}.get(step, f"stage 1, {step} steps")
        networks[name] = VisionTransformer(MODEL).eval()
        load_teacher(work / "kept" / f"{step:07d}", networks[name])
    after: dict[str, Any] = {"initial": work / "stage1", "steps": AFTER, "optim": replace(second.optim, lr=LR)}
    after["teacher"] = replace(second.teacher, momentum=first.teacher.momentum)
    two = replace(second, crops=high, batch_size=BATCH["high"], **common, **after)
    early = work / "kept" / f"{EARLY:07d}"
    runs = {
        "continued": replace(one, **after),
        PLAIN: replace(two, loss=replace(two.loss, gram=0.0)),
        REPAIRED: replace(two, loss=replace(two.loss, gram=WEIGHT), gram_initial=early),
    }
    for name, run in runs.items():
        networks[name] = load_encoder(pretrain(run, work / name.replace(", ", "_").replace(" ", "_")))[0].eval()
    return networks


@contextmanager
def copied(checkpoints: Path, kept: Path) -> Iterator[None]:
    """Copy every checkpoint while it is there: a run keeps two."""
    over = threading.Event()

    def look() -> None:
        for record in sorted(checkpoints.glob(f"[0-9]*/{RECORD}")):
            target = kept / record.parent.name
            if not target.is_dir():
                half = target.with_suffix(".half")
                shutil.rmtree(half, ignore_errors=True)
                shutil.copytree(record.parent, half)
                half.rename(target)

    def watch() -> None:
        while not over.wait(0.2):
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        look()


if __name__ == "__main__":
    main()
