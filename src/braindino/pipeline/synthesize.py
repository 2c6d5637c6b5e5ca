"""Verb `synthesize`: synthetic subjects from real anatomy, as a BIDS derivative with every label known.

Each subject depends on (seed, id) and the settings of its images alone, so it is the same whatever the numbers of
subjects and of processes; a finished one is not made again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindino.config import to_dict
from braindino.corpus.jobs import run_jobs
from braindino.progress import progress
from braindino.record import claimed, digest, is_done, sha256, write_json, write_record, write_table
from braindino.synthesis.anatomy import names
from braindino.synthesis.columns import COLUMNS
from braindino.synthesis.config import SynthesisConfig
from braindino.synthesis.effects import Effects
from braindino.synthesis.sites import CONTRASTS
from braindino.synthesis.subject import Subject, make_subject
from braindino.volume.io import write_nifti

VERB = "synthesize"
FORMAT = 2
"""Raised when the same settings would give other images."""
RECORDS = ".subjects"
FILE = {
    "T1w": "desc-preproc_T1w",
    "T1ce": "ce-gadolinium_desc-preproc_T1w",
    "T2w": "desc-preproc_T2w",
    "FLAIR": "desc-preproc_FLAIR",
}


@dataclass(frozen=True)
class _Order:
    """What one process needs to make one subject."""

    out: Path
    subject: str
    group: str
    seed: int
    spacing_mm: float
    anatomy: Path | None
    key: str
    """Digest of everything that determines the subject."""


def synthesize(out: Path, config: SynthesisConfig) -> Path:
    """Write the cohort to `out`; a second call resumes, or does nothing where all is done.

    Args:
        out: folder of the BIDS derivative.
        config: what to make.

    Returns:
        `out`, committed by its record.

    Raises:
        ValueError: no anatomy (see `synthesis.anatomy.names`), or `out` holds other subjects or is being written.
    """
    out = Path(out)
    settings, parents = _settings(config), _parents(config.anatomy)
    if is_done(out, VERB, settings, parents):
        return out
    orders = _orders(out, config, parents)
    _refuse_strangers(out, {order.subject for order in orders})
    with claimed(out):
        todo = [order for order in orders if _finished(order) is None]
        _run(todo, config.workers or os.cpu_count() or 1, len(orders))
        rows = [_finished(order) for order in orders]
        assert all(row is not None for row in rows)
        _write_tables(out, rows)
        write_record(out, VERB, settings, parents=parents, facts={"subjects": len(orders), "synthetic": True})
    return out


def _settings(config: SynthesisConfig) -> dict[str, Any]:
    """What determines the content: the config without the number of processes, and the effects."""
    settings = to_dict(config)
    del settings["workers"], settings["anatomy"]
    return {**settings, "effects": to_dict(Effects())}


def _parents(folder: Path | None) -> dict[str, str]:
    """Fingerprint of the user's label maps; the packaged anatomies have their names."""
    if folder is None:
        return {"anatomy": "+".join(names(None))}
    return {"anatomy": digest({name: sha256(Path(folder) / f"{name}.nii.gz") for name in names(folder)})}


def _orders(out: Path, config: SynthesisConfig, parents: dict[str, str]) -> list[_Order]:
    settings = _settings(config)
    fixed = {key: settings[key] for key in ("seed", "spacing_mm", "effects")}
    orders = []
    for group in CONTRASTS:
        for number in range(config.first, config.first + getattr(config, group)):
            subject = f"{group}{number:03d}"
            key = digest({**fixed, **parents, "subject": subject, "format": FORMAT})
            orders.append(_Order(out, subject, group, config.seed, config.spacing_mm, config.anatomy, key))
    return orders


def _refuse_strangers(out: Path, subjects: set[str]) -> None:
    found = {path.name.removeprefix("sub-") for path in out.glob("sub-*")}
    if strangers := sorted(found - subjects):
        raise ValueError(
            f"{out} already holds {len(strangers)} subjects that this config does not make "
            f"(first: sub-{strangers[0]}); choose an empty folder"
        )


def _finished(order: _Order) -> dict[str, Any] | None:
    """The participants row of a subject whose files are all there and unchanged, else None."""
    try:
        record = json.loads((order.out / RECORDS / f"sub-{order.subject}.json").read_text(encoding="utf-8"))
        same = record["key"] == order.key and all(sha256(order.out / n) == h for n, h in record["files"].items())
        return dict(record["row"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _run(orders: list[_Order], workers: int, total: int) -> None:
    """Make all subjects, in processes where there are several; the first error stops it."""
    with progress("synthesize subjects", total, done=total - len(orders)) as advance:
        for _ in run_jobs(_make, [(order,) for order in orders], workers):
            advance()


def _make(order: _Order) -> None:
    """Make and write one subject; its record comes last."""
    subject = make_subject(order.subject, order.group, order.seed, order.spacing_mm, order.anatomy, Effects())
    files = _write_images(order.out, f"sub-{order.subject}", subject)
    record = {"key": order.key, "row": dict(subject.row), "files": {n: sha256(order.out / n) for n in files}}
    write_json(order.out / RECORDS / f"sub-{order.subject}.json", record)


def _write_images(out: Path, name: str, subject: Subject) -> list[str]:
    """Images as int16 (gains keep them within its range), masks and labels as uint8; names relative to `out`."""
    arrays: dict[str, np.ndarray] = {
        FILE[contrast]: np.clip(np.rint(image), 0, 32767).astype(np.int16) for contrast, image in subject.images.items()
    }
    arrays["desc-brain_mask"] = subject.brain_mask.astype(np.uint8)
    if subject.label_map is not None:
        arrays["label-lesion_dseg"] = subject.label_map
    written = []
    for ending, array in arrays.items():
        file = f"{name}/anat/{name}_{ending}.nii.gz"
        write_nifti(out / file, array, subject.affine)
        written.append(file)
    return written


def _write_tables(out: Path, rows: list[Any]) -> None:
    write_table(out / "participants.tsv", pd.DataFrame(rows, columns=list(COLUMNS)))
    write_json(out / "participants.json", COLUMNS)
    description = {
        "Name": "BrainDINO synthetic subjects (simulated images from real anatomy; not patients)",
        "BIDSVersion": "1.11.1",
        "DatasetType": "derivative",
        "License": "CC0",
        "GeneratedBy": [{"Name": "braindino synthesize", "Version": metadata.version("braindino")}],
    }
    write_json(out / "dataset_description.json", description)
