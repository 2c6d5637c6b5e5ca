"""report: artefacts -> one self-contained HTML page and its figures. A section vanishes without its artefact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindino.corpus.shards import QUARANTINE_COLUMNS, open_corpus
from braindino.pipeline.analyze import TABLES, read_analysis
from braindino.pipeline.predict import read_predictions
from braindino.pipeline.score import TABLES as SCORES
from braindino.pipeline.score import read_scores
from braindino.record import claimed, fingerprint, read_record, read_table, write_bytes, write_record
from braindino.reporting.artefacts import Artefacts, Similarity, answers_of
from braindino.reporting.corpus_view import corpus_view
from braindino.reporting.figures import Figure
from braindino.reporting.page import Section, render
from braindino.reporting.provenance import provenance_section
from braindino.reporting.sections_corpus import corpus_section
from braindino.reporting.sections_data import (
    analysis_section,
    scans_section,
    similarity_section,
    tasks_section,
    training_section,
)
from braindino.reporting.sections_results import results_section
from braindino.reporting.sections_summary import summary_section
from braindino.types import Case, Task

if TYPE_CHECKING:
    import pandas as pd


def report(
    out: Path,
    *,
    title: str,
    corpus: Path | None = None,
    runs: Mapping[str, Path] | None = None,
    predictions: Sequence[Path] = (),
    scores: Path | None = None,
    analysis: Path | None = None,
    cases: Mapping[str, Case] | None = None,
    tasks: Sequence[Task] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write `index.html` and `figures/*.png` from verified artefacts; returns the page's path.

    The page loads nothing from outside, so it can be mailed, printed and archived.

    Args:
        out: folder of the report.
        title: of the page.
        corpus: folder made by `prepare`.
        runs: name (such as "stage 1") to a folder made by `pretrain`.
        predictions: folders made by `predict`.
        scores: folder made by `score`.
        analysis: folder made by `analyze`, with or without patch-similarity maps in `similarity/`.
        cases: case name to case, for pictures of scans; a predictions table's cases are looked up here.
        tasks: those of the predictions, for units, regions and the sizes of the splits.
        notes: sentences for the summary.

    Raises:
        ValueError: nothing to report on; a folder that is missing, unfinished, changed, or made by another verb.
    """
    out, runs, cases = Path(out), runs or {}, cases or {}
    found = _read(corpus, runs, predictions, scores, analysis, cases)
    found = replace(found, tasks={task.name: task for task in tasks})
    if not (found.records or cases):
        raise ValueError(
            "nothing to report on; give at least one artefact (corpus, runs, predictions, scores, analysis)"
        )
    sections = _sections(found, notes)
    figures = [block for section in sections for block in section.blocks if isinstance(block, Figure)]
    synthetic = found.synthetic_results or found.synthetic_corpus
    page = render(title, sections, synthetic=synthetic).encode()
    parents = {role: fingerprint(record) for role, record in found.records.items()}
    files = sorted({f"figures/{figure.name}.png" for figure in figures} | {"index.html"})
    config = {"title": title, "notes": list(notes), "cases": sorted(cases), "tasks": sorted(found.tasks)}
    with claimed(out):
        for figure in figures:
            write_bytes(out / "figures" / f"{figure.name}.png", figure.png)
        write_bytes(out / "index.html", page)
        write_record(out, "report", config, parents=parents, files=files, facts={"figures": len(figures)})
    return out / "index.html"


def _sections(found: Artefacts, notes: Sequence[str]) -> list[Section]:
    return [
        summary_section(found, notes),
        corpus_section(found),
        tasks_section(found),
        scans_section(found),
        training_section(found),
        similarity_section(found),
        results_section(found),
        analysis_section(found),
        provenance_section(found),
    ]


def _read(
    corpus: Path | None,
    runs: Mapping[str, Path],
    predictions: Sequence[Path],
    scores: Path | None,
    analysis: Path | None,
    cases: Mapping[str, Case],
) -> Artefacts:
    """Read and verify everything that was given."""
    roles: dict[str, Path] = {}
    given: dict[str, Any] = {}
    if corpus is not None:
        roles["corpus"] = Path(corpus)
        given["corpus"] = corpus_view(open_corpus(corpus))
        given["quarantine"] = read_table(Path(corpus) / "quarantine.tsv", text=QUARANTINE_COLUMNS)
    if scores is not None:
        roles["scores"] = Path(scores)
        found = read_scores(scores)
        given |= {name: getattr(found, name) for name in SCORES}
    if analysis is not None:
        roles["analysis"] = Path(analysis)
        tables = read_analysis(analysis)
        given["analysis"] = {name: getattr(tables, name) for name in TABLES}
        given["similarity"] = _similarity(Path(analysis) / "similarity")
    logs = {name: _log(Path(folder)) for name, folder in runs.items()}
    predicted = {Path(folder): read_predictions(folder).table for folder in predictions}
    _one_protocol([*predicted.values(), *(table for name, table in given.items() if name == "metrics")])
    answers = tuple(one for folder, table in predicted.items() for one in answers_of(folder, table))
    roles |= {f"run {name}": Path(folder) for name, folder in runs.items()}
    roles |= {f"predictions {Path(folder).name}": Path(folder) for folder in predictions}
    records = {role: read_record(folder, verify=False) for role, folder in roles.items()}
    return Artefacts(**given, logs=logs, answers=answers, cases=cases, records=records)


def _one_protocol(tables: Sequence[pd.DataFrame]) -> None:
    """Refuse a page on which numbers of one task stand side by side that come from different protocols."""
    told: dict[str, set[str]] = {}
    for table in (table for table in tables if {"task", "protocol"} <= set(table.columns)):
        for task, protocol in zip(table["task"], table["protocol"], strict=True):
            told.setdefault(task, set()).add(protocol)
    if mixed := [task for task, protocols in told.items() if len(protocols) > 1]:
        names = ", ".join(sorted(told[mixed[0]]))
        raise ValueError(f"task {mixed[0]} has numbers of the protocols {names}; make one page for each protocol")


def _log(run: Path) -> list[dict[str, Any]]:
    """Entries of a finished run's log."""
    read_record(run, "pretrain")
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{run / 'log.jsonl'} is damaged ({error}); delete {run} and train again") from None


def _similarity(folder: Path) -> Similarity | None:
    """Patch-similarity maps, where the analysis holds any."""
    if not folder.is_dir():
        return None
    points = read_table(folder / "points.tsv", text=("name",))
    maps = {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
    image = maps.pop("slice")
    return Similarity(image, tuple((row.name, int(row.row), int(row.column)) for row in points.itertuples()), maps)
