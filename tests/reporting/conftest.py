"""A small line of artefacts, written by the package's own writers from random numbers: clearly no results."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braindino.config import to_dict
from braindino.layouts.labels import SCHEMES
from braindino.pipeline.analyze import analyze, write_analysis
from braindino.pipeline.predict import write_predictions
from braindino.pipeline.prepare import prepare
from braindino.pipeline.score import score, write_scores
from braindino.pretraining.config import HeadConfig, PretrainConfig
from braindino.record import fingerprint, read_record, write_bytes, write_record, write_table
from braindino.types import Case, Features, Predictions, Scan, Task
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe

SHAPE, SPACING = (40, 48, 36), 4.0
SUBJECTS = tuple(f"sub-{n:02d}" for n in range(24))
HEADS = {"brain_age": "linear", "diagnosis": "linear", "survival": "cox", "tumour_segmentation": "decoder"}
METRICS = {"brain_age": "mae", "diagnosis": "roc_auc", "survival": "concordance_index", "tumour_segmentation": "dice"}
KINDS = {"brain_age": "regression", "diagnosis": "classification", "survival": "survival"}


@pytest.fixture(scope="session")
def line(tmp_path_factory):
    """All arguments of `report` but the folder and the title."""
    return build_line(tmp_path_factory.mktemp("line"))


def build_line(root: Path) -> dict:
    cases = {case.name: case for case in [_case(root, name, n) for n, name in enumerate(SUBJECTS)]}
    real = _case(root, "head", 99, cohort="folder:real")
    folders = [_predictions(root, *job, cases) for job in _jobs()]
    return {
        "corpus": _corpus(root),
        "runs": {"stage 1": _run(root, "stage1", 60, 0.0), "stage 2": _run(root, "stage2", 30, 2.0)},
        "predictions": folders,
        "scores": _scores(root, folders),
        "analysis": _analysis(root),
        "cases": {**cases, real.name: real},
        "tasks": [_task(name, list(cases.values())) for name in HEADS],
    }


def _case(root, name, seed, cohort="synthetic"):
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.75
    image = np.where(inside, 100 + 20 * grid[1] + 5 * rng.standard_normal(SHAPE), 0).astype(np.float32)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    labels = _labels(grid, 0.25)
    folder = root / "scans" / cohort.partition(":")[0]
    write_nifti(folder / f"{name}_T1w.nii.gz", image, affine)
    write_nifti(folder / f"{name}_dseg.nii.gz", labels, affine)
    path, label_map = folder / f"{name}_T1w.nii.gz", folder / f"{name}_dseg.nii.gz"
    scan = Scan(cohort, name, "T1w", path, label_map=label_map if cohort == "synthetic" else None)
    group = ("healthy", "dementia", "glioma")[seed % 3]
    return Case(name, (scan,), participant={"group": group} if cohort == "synthetic" else {})


def _task(name, test):
    """A task with the pictured cases as test subjects, 8 training and 2 validation subjects."""
    known = [{"age": 30.0 + n, "diagnosis": ("dementia", "healthy")[n % 2], "event": n % 3 > 0} for n in range(10)]
    extra = [Case(f"t-{n}", (), participant=known[n] | {"survival_days": 9.0 * n}) for n in range(10)]
    split = {case.subject: "test" for case in test}
    split |= {case.subject: "train" if n < 8 else "validation" for n, case in enumerate(extra)}
    target, unit = {
        "brain_age": (("age",), "years"),
        "diagnosis": (("diagnosis",), "class"),
        "survival": (("survival_days", "event"), "days"),
        "tumour_segmentation": ((), "Dice"),
    }[name]
    classes = ("dementia", "healthy") if name == "diagnosis" else ()
    regions = SCHEMES["brats2023"].regions if name == "tumour_segmentation" else {}
    kind = KINDS.get(name, "segmentation")
    return Task(
        name, kind, "synthetic", ("T1w",), target, unit, METRICS[name], "none", (*test, *extra), split, classes, regions
    )


def _labels(grid, radius):
    distance = np.sqrt((grid[0] - 0.3) ** 2 + grid[1] ** 2 + grid[2] ** 2)
    return np.select([distance < radius / 2, distance < radius * 0.75, distance < radius], [3, 1, 2], 0).astype(
        np.uint8
    )


def _corpus(root):
    (root / "scans" / "synthetic" / "broken_T1w.nii.gz").write_bytes(b"\x1f\x8b not a scan")
    recipe = Recipe(spacing_mm=4.0, size_px=48, slices=8, background=-3.0)
    source = root / "images" / "synthetic"
    for name in ("sub-00", "sub-01", "broken"):
        data = (root / "scans" / "synthetic" / f"{name}_T1w.nii.gz").read_bytes()
        write_bytes(source / f"{name}_T1w.nii.gz", data)
    prepare([f"folder={source}"], root / "corpus", recipe, workers=1)
    return root / "corpus"


def _run(root, name, steps, gram):
    rng = np.random.default_rng(steps)
    config = PretrainConfig(corpus=root / "corpus", steps=steps, batch_size=8, dino_head=HeadConfig(prototypes=1024))
    entries = []
    for step in range(steps):
        level = 6.9 - 2 * step / steps + 0.1 * rng.standard_normal()
        entry = {"step": step, "finite": step != 7, "lr": 1e-3 * step / steps, "momentum": 0.99, "total": 2 * level}
        entry |= {"global": level, "local": level + 0.1, "ibot": level / 2, "koleo": 3.0, "grad_norm_backbone": 2.0}
        entry |= {"gram": 0.1} if gram else {}
        entry |= {"target_entropy": 6.5, "prototypes_used": 20.0, "cls_cosine": 0.5, "effective_rank": 9.0}
        entries.append(entry)
    write_bytes(root / name / "log.jsonl", "".join(json.dumps(e) + "\n" for e in entries).encode())
    parents = {"corpus": fingerprint(read_record(root / "corpus"))}
    write_record(root / name, "pretrain", to_dict(config), parents=parents)
    return root / name


def _jobs():
    for task, head in HEADS.items():
        for fraction in (0.4, 1.0):
            for encoder, noise in (("braindino", 0.5), ("random_init", 2.0)):
                yield task, encoder, head, fraction, noise / fraction**0.5
            if task in KINDS:
                yield task, "braindino", "prior", fraction, np.inf


def _predictions(root, task, encoder, head, fraction, noise, cases):
    folder = root / "predictions" / f"{task}-{encoder}-{head}-{fraction:g}"
    base = {"task": task, "kind": KINDS.get(task, "segmentation"), "metric": METRICS[task], "encoder": encoder}
    base |= {"head": head, "fraction": fraction, "seed": 0, "perturbation": "none", "severity": 0, "split": "test"}
    rng = np.random.default_rng(len(folder.name))
    rows = []
    for n, case in enumerate(cases.values()):
        row = base | {"subject": case.subject, "case": case.name, "site": "A", "status": "ok"}
        rows.append(row | _outcome(task, n, noise, rng, folder, case))
    if task == "diagnosis":
        rows[3] |= {"status": "truncated scan", "output_dementia": np.nan, "output_healthy": np.nan}
    write_predictions(Predictions(pd.DataFrame(rows)), folder)
    return folder


def _outcome(task, n, noise, rng, folder, case):
    signal, error = n / 4 - 3, 0.0 if np.isinf(noise) else noise * rng.standard_normal()
    said = 0.0 if np.isinf(noise) else signal + error
    if task == "brain_age":
        return {"target": 50 + 10 * signal, "output": 50 + 10 * said}
    if task == "diagnosis":
        p = 1 / (1 + np.exp(-said))
        return {"target": "healthy" if n % 2 or n > 20 else "dementia", "output_dementia": 1 - p, "output_healthy": p}
    if task == "survival":
        return {"time": 500.0 - 15 * n + 40 * (n % 5), "event": int(n % 4 > 0), "output": said}
    radius = 0.25 + 0.01 * n * noise / 0.5
    grid = np.meshgrid(*[np.linspace(-1, 1, m) for m in SHAPE], indexing="ij")
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    if n < 5:
        write_nifti(folder / "label_maps" / f"{case.name}_dseg.nii.gz", _labels(grid, radius), affine)
    overlap = float(np.clip(1 - abs(radius - 0.25) * 2 - 0.02 * n, 0, 1))
    return {
        f"output_{region}_{name}": v for region in ("WT", "ET") for name, v in (("dice", overlap), ("hd95_mm", 4.0))
    }


def _scores(root, folders):
    tables = [pd.read_csv(f / "predictions.tsv", sep="\t", na_values="n/a", keep_default_na=False) for f in folders]
    write_scores(score(tables, draws=100), root / "scores", {folder.name: "0" * 64 for folder in folders})
    return root / "scores"


def _analysis(root):
    rng = np.random.default_rng(5)
    cases = pd.DataFrame(
        {"case": SUBJECTS, "subject": SUBJECTS, "session": "", "site": ["A", "B"] * 12, "status": "ok"}
    )
    features = Features(
        rng.standard_normal((24, 3, 8)).astype(np.float16), np.zeros((24, 3), np.float32), cases, "braindino", "0" * 64,
        "recipe", ("T1w",) * 3,
    )  # fmt: skip
    other = replace(features, values=rng.standard_normal((24, 3, 8)).astype(np.float16), encoder="random_init")
    labels = pd.Series({name: "ab"[n % 2] for n, name in enumerate(SUBJECTS)})
    folder = root / "analysis" / "similarity"
    points = pd.DataFrame([("tumour", 20, 12), ("CSF", 30, 30)], columns=["name", "row", "column"])
    write_table(folder / "points.tsv", points)
    for name, array in (("slice", rng.standard_normal((48, 48))), ("braindino", rng.random((2, 6, 6))),
                        ("random_init", rng.random((2, 6, 6)))):  # fmt: skip
        buffer = io.BytesIO()
        np.save(buffer, array.astype(np.float32))
        write_bytes(folder / f"{name}.npy", buffer.getvalue())
    found = analyze({"braindino": features, "random_init": other}, labels, set(SUBJECTS[:12]))
    write_analysis(found, root / "analysis")
    return root / "analysis"
