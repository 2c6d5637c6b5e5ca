"""Where every number comes from: fingerprints, versions, configs, failed cases, and a Methods text to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from braindino.record import fingerprint
from braindino.reporting.artefacts import Artefacts
from braindino.reporting.figures import Figure
from braindino.reporting.page import Section, Table, Text, counted, without_folders

SHORT = 12
"""Digits of a fingerprint that are shown."""


def provenance_section(found: Artefacts) -> Section:
    """Methods text, statement on synthetic data, artefacts with fingerprints, failed cases, versions, configs."""
    blocks: list[Text | Table | Figure] = []
    if text := " ".join(_methods(found)):
        blocks += [Text("Methods text to paste:"), Text(text, "code")]
    if found.synthetic_results or found.synthetic_corpus:
        blocks.append(Text(SYNTHETIC_STATEMENT, "note"))
    if failed := _failed(found):
        blocks.append(failed)
    if found.records:
        blocks += [_artefact_table(found.records), _version_table(found.records)]
        blocks.append(Text("Configuration of every artefact, seeds included (folders by their names only):"))
        configs = {role: shareable(record["config"]) for role, record in found.records.items()}
        unique = list(dict.fromkeys(json.dumps(c, indent=1, ensure_ascii=False) for c in configs.values() if c))
        rows = [
            (
                ", ".join(
                    role for role, own in configs.items() if json.dumps(own, indent=1, ensure_ascii=False) == text
                ),
                text,
            )
            for text in unique
        ]
        blocks += [
            Table(f"Configuration: {roles}", ("configuration",), ((text,),), folded=True) for roles, text in rows
        ]
    return Section("Methods and provenance", tuple(blocks))


SYNTHETIC_STATEMENT = (
    "Synthetic subjects are made by the package from the anatomy of real heads, with ages, diagnoses, lesions and "
    "outcomes drawn from known rules. A model can only find what those rules put in. Numbers on them show that every "
    "step works and are no evidence of performance in patients."
)


def shareable(config: Any) -> Any:
    """A config without the folders of the machine it was made on: an absolute path is reduced to its last part."""
    if isinstance(config, Mapping):
        return {key: shareable(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [shareable(value) for value in config]
    if isinstance(config, str) and PurePath(config).is_absolute():
        return PurePath(config).name
    return config


def _methods(found: Artefacts) -> Iterator[str]:
    """Sentences for a paper, of what is known from the records."""
    if found.corpus is not None:
        recipe = found.corpus.recipe
        low, high = recipe.clip_percent
        yield (
            f"Scans were reoriented to RAS, clipped at the {low:g} and {high:g} percentiles inside the brain mask, "
            f"z-scored inside it, resampled to {recipe.spacing_mm:g} mm and cut into at most {recipe.slices} axial "
            f"slices of {recipe.size_px} x {recipe.size_px} pixels (recipe {recipe.hash()})."
        )
    for name in found.logs:
        yield _pretraining_sentence(name, found.records[f"run {name}"]["config"])
    if heads := sorted({one.head for one in found.answers}):
        yield (
            f"The encoder stayed frozen. Light heads ({', '.join(heads)}) were learned on training subjects and their "
            "settings chosen on validation subjects; all results are from test subjects, split by subject."
        )
    if "scores" in found.records:
        config = found.records["scores"]["config"]
        yield (
            f"95 % intervals are percentile intervals of {config['draws']} bootstrap draws over subjects (seed "
            f"{config['seed']}), stratified by class or event; models were compared in pairs on the same subjects with "
            "Holm's correction."
        )
    if found.synthetic_results:
        yield "Subjects were synthetic."


def _pretraining_sentence(name: str, config: Mapping[str, Any]) -> str:
    model, loss = config["model"], config["loss"]
    terms = ", ".join(f"{term} {loss[term]:g}" for term in ("dino", "ibot", "koleo", "gram") if loss.get(term))
    start = f", starting from {PurePath(config['initial']).name}" if config.get("initial") else ""
    return (
        f"Pretraining {name}: a vision transformer (width {model['dim']}, depth {model['depth']}, {model['heads']} "
        f"heads, patches of {model['patch_size']} pixels) was trained by self-distillation for {config['steps']} steps "
        f"of {config['batch_size']} slices with loss weights {terms} (seed {config['seed']}){start}; "
        f"{len(config['exclude'])} subjects were kept out."
    )


def _failed(found: Artefacts) -> Table | None:
    """Cases without an answer, each reason once per task."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for one in found.answers:
        for row in one.table[one.table["status"] != "ok"].itertuples():
            rows.setdefault((one.task, str(row.case), without_folders(str(row.status))), []).append(one.model)
    if not rows:
        return None
    cells = tuple(
        (task, case, ", ".join(dict.fromkeys(models)), reason) for (task, case, reason), models in rows.items()
    )
    return Table(f"{counted(len(cells), 'failed case')}.", ("task", "case", "models", "reason"), cells)


def _artefact_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = tuple((role, str(record["verb"]), fingerprint(record)[:SHORT]) for role, record in records.items())
    caption = "Artefacts and the first digits of their fingerprints (verb, config, parents, hashes of all files)."
    return Table(caption, ("artefact", "made by", "fingerprint"), rows, folded=len(rows) > 12)


def _version_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Versions, more than one where artefacts were made with different ones."""
    known: dict[str, dict[str, None]] = {}
    for record in records.values():
        for name, version in record.get("versions", {}).items():
            known.setdefault(name, {})[str(version)] = None
    rows = tuple((name, ", ".join(versions)) for name, versions in known.items())
    return Table("Versions with which the artefacts were made.", ("what", "version"), rows)
