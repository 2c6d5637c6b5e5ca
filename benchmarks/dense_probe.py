"""Does stage 2 make patch tokens better? Tissue of a patch by two probes, in contrasts drawn anew for every scan.

    python benchmarks/dense_probe.py --work W --out benchmarks/results/dense_probe --picture docs/dense_probe.png

Writes OUT.json (the claims), OUT.tsv (all numbers) and the picture. Resumable; some 8 minutes of one core for a run.

**Subjects.** Anatomy of `braindino synthesize` (healthy, 2 mm). In every scan CSF, grey and white matter get a level
each, uniform in 0.15 to 1 and at least 0.15 apart, then receive field and noise, in the spirit of SynthSeg (Billot
2023). In one contrast intensity nearly tells tissue, and random weights pass intensity on; over contrasts it does not.

**Networks**, six of each (six seeds of training), on one corpus (100 subjects, two scans each, slices of 96 px, 2 mm):

- random: weights as stage 1 starts from, of another seed;
- stage 1: `tiny_stage1.toml` with a smaller network, global crops of 32 px, 300 steps of 32 slices;
- stage 2: `tiny_stage2.toml` from there, global crops of 96 px, Gram anchor, 80 steps of 16 slices;
- continued: stage 1 goes on instead, with stage 2's optimiser and teacher, for 600 steps of 32 slices, which take as
  long as stage 2 on a CPU. What it gains is not stage 2's own.

**Probe.** Other subjects, one scan each, two slices (at a third and at two thirds of the brain), enlarged to twice
their pixels: patches of 4 mm, where those of stage 1 had about 23 mm and those of stage 2 about 8 mm. A patch has the
tissue that fills most of it. A linear map of the tokens to the three tissues (ridge on one-hot labels, tissues weigh
the same) is fitted on half of the subjects, the other half is asked. Beside it: the k = 10 nearest patches by cosine,
and both at the slices' own pixels, patches of 8 mm.

Accuracies are balanced; chance is 1/3. Intervals: 95 %, of the mean over the runs, paired for differences: "low" to
"high" by BCa bootstrap over the asked subjects, "runs_low" to "runs_high" by Student's t over the runs.

**The claim: k-NN at 4 mm is better after stage 2 than after stage 1**, both whole intervals above 0. All other
comparisons are given whichever way they fall. It comes from an earlier experiment with one run of each network, on
subjects of the seeds 1301 and 1302, whose claim was the linear probe at 4 mm: that was not shown (0.002 [-0.004,
0.008]), but k-NN, which was given beside it, had a gain of 0.010 [0.004, 0.016]. Settings are those of that experiment,
chosen on the seeds 1101 to 1103; the results are of 1501 and 1502, which nothing else has used, and were run once.

What it cannot show: how much of a gain is the Gram anchor's and how much the resolution's, or that features of
patients' scans are good.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from it_learns import compared
from scipy.stats import t as student
from torch.nn.functional import interpolate

from braindino.config import read_config
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer
from braindino.model.weights import load_encoder
from braindino.pipeline.prepare import prepare
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining.config import PretrainConfig
from braindino.record import write_bytes, write_json, write_table
from braindino.reporting.figures import PALETTE, canvas, style
from braindino.stats.representation import knn_classify
from braindino.synthesis.acquire import acquire, smooth_field
from braindino.synthesis.effects import Effects
from braindino.synthesis.subject import Subject, make_subject
from braindino.types import Volume
from braindino.volume.io import write_nifti
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe

CONFIGS = Path(__file__).parents[1] / "src" / "braindino" / "configs"
SEEDS = (1501, 1502)
"""Of the subjects (and the draws) of pretraining, and of those that are probed."""
RUNS = 6
RECIPE = Recipe(spacing_mm=2.0, size_px=96, slices=16)
MODEL = ViTConfig(dim=64, depth=3, heads=2, patch_size=4, layer_scale=1.0)
SUBJECTS, SCANS, PROBED = 100, ("T1w", "T2w"), 160
"""The names of the scans are those of files alone: every scan has levels of its own."""
LOW_PX, HIGH_PX = 32, 96
STEPS = {"stage 1": 300, "stage 2": 80, "continued": 600}
BATCH = {"stage 1": 32, "stage 2": 16, "continued": 32}
LR = 5e-3
"""Of stage 2 and of the continued stage 1: as stage 1's."""
PROBE_PX = (96, 192)
SLICES = (5, 10)
"""Of the 16 of a probed scan."""
TISSUES = ("CSF", "grey", "white")
PATCHES, BANK, K, RIDGE = 200, 6000, 10, 10.0
"""Patches of a subject, and remembered ones in all for k-NN; neighbours; penalty of the linear map."""
PAIRS = (("stage 2", "stage 1"), ("stage 2", "continued"), ("continued", "stage 1"), ("stage 1", "random"))
CLAIM = ("k-NN", 192, PAIRS[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for subjects, corpus and runs; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=SEEDS, help="of pretraining's subjects, of the probe's")
    parser.add_argument("--runs", type=int, default=RUNS, help="trainings of each network")
    options = parser.parse_args()
    corpus = made_corpus(options.work, options.seeds[0])
    images, labels = probed(options.work / "probed.npz", options.seeds[1])
    runs = [trained(options.work / f"run{n}", corpus, options.seeds[0] + n) for n in range(options.runs)]
    rows, claims = [], []
    for side in PROBE_PX:
        answers = [asked(networks, images, labels, side) for networks in runs]
        for probe in ("linear", "k-NN"):
            every = [rights[probe] for rights, _ in answers]
            told, claim = over_runs(f"{probe}, {side} px", every, answers[0][1])
            rows += told
            stated = [(probe, side, pair) == CLAIM for pair in PAIRS]
            claims += [
                {"probe": probe, "px": side, "stated": one} | claim(*pair)
                for pair, one in zip(PAIRS, stated, strict=True)
            ]
    table = pd.DataFrame(rows)
    write_table(options.out.with_suffix(".tsv"), table)
    settings = {"seeds": list(options.seeds), "runs": options.runs, "steps": STEPS, "batch": BATCH}
    settings |= {"k": K, "patches": PATCHES}
    write_json(options.out.with_suffix(".json"), {"settings": settings, "claims": claims})
    print(table.to_string(index=False, float_format="%.3f"))
    for claim in claims:
        print(f"{'shown' if claim['shown'] else 'not shown'}: {claim}")
    if options.picture:
        write_bytes(options.picture, picture(table))


def over_runs(
    part: str, every: list[dict[str, np.ndarray]], total: np.ndarray
) -> tuple[list[dict[str, Any]], Callable[[str, str], dict[str, Any]]]:
    """`it_learns.compared` of the mean over runs, with each run beside it and intervals over the runs too."""
    accuracies = {name: [balanced(rights[name], total) for rights in every] for name in every[0]}
    told, claim = compared(part, {name: np.mean([rights[name] for rights in every], 0) for name in every[0]}, total, {})

    def over(values: np.ndarray) -> dict[str, Any]:
        reach = student.ppf(0.975, max(len(values) - 1, 1)) * values.std(ddof=1) / len(values) ** 0.5
        low, high = values.mean() - reach, values.mean() + reach
        return {"runs_low": low, "runs_high": high, "runs": " ".join(f"{value:.4f}" for value in values)}

    def claimed(a: str, b: str) -> dict[str, Any]:
        found = claim(a, b, 0.0) | over(np.array(accuracies[a]) - accuracies[b])
        return found | {"shown": bool(found["shown"] and found["runs_low"] > 0)}

    rows = [row | over(np.array(accuracies[row["features"]])) for row in told]
    return [{key: value for key, value in row.items() if key != "step"} for row in rows], claimed


def balanced(rights: np.ndarray, total: np.ndarray) -> float:
    """Accuracy over all patches of all subjects, the mean of the tissues."""
    return float(np.mean(rights.sum(0) / total.sum(0)))


def trained(work: Path, corpus: Path, seed: int) -> dict[str, VisionTransformer]:
    """The networks of one seed of training, by name."""
    first, second = (read_config(CONFIGS / f"tiny_stage{n}.toml", PretrainConfig) for n in (1, 2))
    optim = replace(second.optim, lr=LR)
    low = replace(first.crops, global_px=LOW_PX, local_px=LOW_PX // 2)
    high = replace(second.crops, global_px=HIGH_PX, local_px=HIGH_PX // 2, gram_px=HIGH_PX)
    runs = {
        "stage 1": replace(first, crops=low),
        "stage 2": replace(second, crops=high, initial=work / "stage 1", optim=optim),
        "continued": replace(first, crops=low, initial=work / "stage 1", optim=optim, teacher=second.teacher),
    }
    networks = {"random": VisionTransformer(MODEL, torch.Generator().manual_seed(1000 + seed)).eval()}
    for name, run in runs.items():
        size = {"steps": STEPS[name], "batch_size": BATCH[name]}
        pretrain(replace(run, corpus=corpus, exclude=(), model=MODEL, seed=seed, **size), work / name)
        networks[name] = load_encoder(work / name / "encoder.safetensors")[0].eval()
    return networks


def made_corpus(work: Path, seed: int, subjects: int = SUBJECTS) -> Path:
    """Healthy subjects, each scan with levels of its own, prepared."""
    for number in range(subjects):
        name = f"sub-{number:03d}"
        paths = [work / "scans" / name / "anat" / f"{name}_{scan}.nii.gz" for scan in SCANS]
        if not all(path.is_file() for path in paths):
            subject = anatomy(number, seed)
            for draw, path in enumerate(paths):
                write_nifti(path, scanned(subject, np.random.default_rng([seed, number, draw])), subject.affine)
    names = [f"sub-{number:03d}" for number in range(subjects)]
    write_bytes(work / "scans" / "participants.tsv", "\n".join(["participant_id", *names]).encode())
    prepare([f"bids={work / 'scans'}"], work / "corpus", RECIPE, workers=1)
    return work / "corpus"


def anatomy(number: int, seed: int) -> Subject:
    return make_subject(f"sub-healthy{number:03d}", "healthy", seed, RECIPE.spacing_mm, None, Effects())


def scanned(subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """The brain with a random level per tissue, a receive field and noise; what is no tissue looks like grey matter."""
    levels = np.zeros(3)
    while np.diff(np.sort(levels)).min() <= 0.15:
        levels = rng.uniform(0.15, 1, 3)
    every = np.append(levels, [levels[1]] * (len(subject.fractions) - 3)).astype(np.float32)
    signal = np.tensordot(every, subject.fractions, 1)
    noise = 0.03 * float(signal[subject.brain_mask].mean())
    image = acquire(rng, signal, smooth_field(rng, signal.shape, 0.1), noise, 1)
    return np.where(subject.brain_mask, 1000 * image.clip(1e-3), 0).astype(np.float32)


def probed(path: Path, seed: int, subjects: int = PROBED) -> tuple[np.ndarray, np.ndarray]:
    """Slices of the probed subjects (subject, slice, 1, row, column) and the tissue of each pixel, 0 outside."""
    if not path.is_file():
        images, labels = [], []
        for number in range(subjects):
            subject = anatomy(number, seed)
            tissue = np.where(subject.brain_mask, 1 + subject.fractions[:3].argmax(0), 0).astype(np.int16)
            image = scanned(subject, np.random.default_rng([seed, number, 0]))[None]
            volume = Volume(image, ("any",), subject.affine, brain_mask=subject.brain_mask, label_map=tissue)
            ready = preprocess(volume, RECIPE)
            images.append(to_slices(ready.voxels)[list(SLICES)])
            labels.append(to_slices(ready.label_map[None])[list(SLICES), 0])
        buffer = io.BytesIO()
        np.savez(buffer, images=np.stack(images), labels=np.stack(labels))
        write_bytes(path, buffer.getvalue())
    with np.load(path, allow_pickle=False) as kept:
        return kept["images"], kept["labels"]


Rights = dict[str, dict[str, np.ndarray]]
"""Probe and network to the rightly told patches of each asked subject, by tissue (subject, tissue)."""


def asked(
    networks: dict[str, VisionTransformer], images: np.ndarray, labels: np.ndarray, side: int
) -> tuple[Rights, np.ndarray]:
    """Rightly told patches, and all that were asked, of every second subject at slices enlarged to `side` px."""
    chosen = [patches(own, side, number) for number, own in enumerate(labels)]
    total = np.stack([np.bincount(tissue, minlength=len(TISSUES)) for _, tissue in chosen[1::2]])
    rights: Rights = {"linear": {}, "k-NN": {}}
    for name, network in networks.items():
        tokens = [tokens_of(network, own, side)[where] for own, (where, _) in zip(images, chosen, strict=True)]
        bank, known = np.concatenate(tokens[::2]), np.concatenate([tissue for _, tissue in chosen[::2]])
        kept = np.random.default_rng(0).permutation(len(bank))[:BANK]
        answers = {"linear": linear(bank, known), "k-NN": partial(knn_classify, bank[kept], known[kept], k=K)}
        for probe, answer in answers.items():
            said = [(answer(x), tissue) for x, (_, tissue) in zip(tokens[1::2], chosen[1::2], strict=True)]
            rights[probe][name] = np.stack([np.bincount(t[a == t], minlength=len(TISSUES)) for a, t in said])
    return rights, total


def patches(labels: np.ndarray, side: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `PATCHES` places of patches that are mostly brain, and the tissue that fills most of each."""
    grid = side // MODEL.patch_size
    size = labels.shape[1] // grid
    blocks = labels.reshape(-1, grid, size, grid, size).swapaxes(2, 3).reshape(-1, size * size)
    shares = (blocks[..., None] == np.arange(1, 1 + len(TISSUES))).mean(1)
    inside = np.random.default_rng(number).permutation(np.flatnonzero(shares.sum(1) > 0.5))[:PATCHES]
    return inside, shares[inside].argmax(1)


@torch.inference_mode()
def tokens_of(network: VisionTransformer, slices: np.ndarray, side: int) -> np.ndarray:
    """Patch tokens of the slices of a subject, one after the other."""
    images = torch.from_numpy(slices)
    if side != images.shape[-1]:
        images = interpolate(images, size=(side, side), mode="bicubic")
    return network(images).patch.flatten(0, 1).double().numpy()


def linear(x: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The class with the largest value of a ridge regression on one-hot labels; classes weigh the same."""
    centre, spread = x.mean(0), x.std(0) + 1e-6

    def ready(x: np.ndarray) -> np.ndarray:
        return np.c_[(x - centre) / spread, np.ones(len(x))]

    one_hot = np.eye(len(TISSUES))[labels]
    weights = (len(x) / len(TISSUES) / one_hot.sum(0))[labels][:, None]
    weighted = (ready(x) * weights).T
    solved = np.linalg.solve(weighted @ ready(x) + RIDGE * np.eye(x.shape[1] + 1), weighted @ one_hot)
    return lambda x: (ready(x) @ solved).argmax(1)


def picture(table: pd.DataFrame) -> bytes:
    """Accuracy of each network: linear probe and k-NN, at fine and at coarse patches."""
    with style():
        drawn = canvas(8.0, 3.2, synthetic=True)
        panels = drawn.subplots(1, len(PROBE_PX), sharey=True)
        for panel, side in zip(panels, reversed(PROBE_PX), strict=True):
            for number, probe in enumerate(("linear", "k-NN")):
                part: Any = table[table["part"] == f"{probe}, {side} px"]
                span = np.abs(part[["low", "high"]].to_numpy().T - part["accuracy"].to_numpy())
                places = np.arange(len(part)) + 0.2 * number - 0.1
                colour = PALETTE[number]
                panel.errorbar(places, part["accuracy"], yerr=span, fmt="o", color=colour, capsize=3, label=probe)
            panel.set_xticks(range(len(part)), part["features"])
            panel.margins(x=0.1)
            panel.set_title(f"Patches of {MODEL.patch_size * RECIPE.size_px * RECIPE.spacing_mm / side:.0f} mm")
        panels[0].set_ylabel("Accuracy (balanced)")
        panels[0].legend(loc="upper left", fontsize=8)
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
