"""Where every number comes from: fingerprints, versions, configs, failed cases, and a Methods text to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from braindino.record import digest, fingerprint
from braindino.reporting.artefacts import Artefacts
from braindino.reporting.figures import Figure
from braindino.reporting.names import head_label, task_label
from braindino.reporting.page import Section, Table, Text, cell, counted, without_folders
from braindino.types import SPLITS

SHORT = 12
"""Digits of a fingerprint that are shown."""
TRAINED_INSIDE = ("lora", "tuned", "tuned_decoder")
"""Heads that train in a copy of the encoder."""
MOST_IN_A_CELL = 12
"""Entries of a list in a table of configurations."""


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
        blocks += _configurations(found.records)
    return Section("Methods and provenance", tuple(blocks))


def _configurations(records: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """Every configuration: one table for several artefacts of a verb with flat ones, else each as JSON."""
    by_verb: dict[str, dict[str, Any]] = {}
    for role, record in records.items():
        if record["config"]:
            by_verb.setdefault(str(record["verb"]), {})[role] = shareable(record["config"])
    for verb, configs in by_verb.items():
        names = list(dict.fromkeys(name for config in configs.values() for name in config))
        flat = all(_flat(value) for config in configs.values() for value in config.values())
        if flat and len(configs) > 1:
            rows = tuple((role, *(_shown(own.get(name, "")) for name in names)) for role, own in configs.items())
            yield Table(f"Configuration: made by {verb}", ("artefact", *names), rows, folded=True)
            continue
        for role, config in configs.items():
            text = json.dumps(config, indent=1, ensure_ascii=False)
            yield Table(f"Configuration: {role}", ("configuration",), ((text,),), folded=True)


def _flat(value: Any) -> bool:
    """Fits a cell: no mapping, nor a list of anything but a few numbers and names."""
    if isinstance(value, list):
        return len(value) <= MOST_IN_A_CELL and not any(isinstance(one, (dict, list)) for one in value)
    return not isinstance(value, dict)


def _shown(value: Any) -> str:
    return ", ".join(cell(one) for one in value) if isinstance(value, list) else cell(value)


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
        beside = (
            f", each with {recipe.neighbours} below and {recipe.neighbours} above it, at multiples of "
            f"{recipe.spacing_mm:g} mm, as {recipe.channels} channels"
        )
        yield (
            f"Scans were reoriented to RAS, clipped at the {low:g} and {high:g} percentiles inside the brain mask, "
            f"z-scored inside it, resampled to {recipe.spacing_mm:g} mm and cut into at most {recipe.slices} axial "
            f"slices of {recipe.size_px} x {recipe.size_px} pixels{beside if recipe.neighbours else ''} "
            f"(recipe {recipe.hash()})."
        )
    for name in found.logs:
        yield _pretraining_sentence(name, found.records[f"run {name}"]["config"])
    for task in found.tasks.values():
        train, validation, test = (len({case.subject for case in task.cases_of(split)}) for split in SPLITS)
        yield (
            f"{task_label(task.name)} ({task.kind}, {', '.join(task.contrasts)}) had {train} training, {validation} "
            f"validation and {test} test subjects."
        )
    if heads := sorted({one.head for one in found.answers}):
        inside = [head for head in heads if head in TRAINED_INSIDE]
        yield (
            f"{_frozen(inside)} Heads ({', '.join(map(head_label, heads))}) were learned on training subjects and "
            "their settings chosen on validation subjects (linear: also by cross-validation within training); "
            + ("results are from the same validation subjects, " if found.two_way else "all results are from test ")
            + ("as the paper's protocol has it, split by subject." if found.two_way else "subjects, split by subject.")
        )
    if "scores" in found.records:
        config = found.records["scores"]["config"]
        yield (
            f"95 % intervals are BCa intervals of {config['draws']} bootstrap draws over subjects (seed "
            f"{config['seed']}), stratified by class or event; models were compared in pairs on the same subjects with "
            "Holm's correction within each task and label fraction."
        )
    if found.synthetic_results:
        yield "Subjects were synthetic."
    if found.records:
        yield f"Software: {_software(found.records)}."


def _frozen(inside: list[str]) -> str:
    """What was done to the encoder, given the heads that train in a copy of it."""
    if not inside:
        return "The encoder stayed frozen."
    return f"For {' and '.join(inside)} a copy of the encoder was trained; for every other head it stayed frozen."


def _software(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The package's version and commit, of each where artefacts were made with more than one."""
    found = [record.get("versions", {}) for record in records.values()]
    versions = dict.fromkeys(str(own["braindino"]) for own in found if "braindino" in own)
    commits = dict.fromkeys(str(own["commit"])[:SHORT] for own in found if "commit" in own)
    return f"BrainDINO {', '.join(versions) or 'of unknown version'}" + (
        f" (commit {', '.join(commits)})" if commits else ""
    )


def _pretraining_sentence(name: str, config: Mapping[str, Any]) -> str:
    model, loss = config["model"], config["loss"]
    terms = ", ".join(f"{term} {loss[term]:g}" for term in ("dino", "ibot", "koleo", "gram") if loss.get(term))
    probe = config.get("probe", {})
    probed = (
        f", and {probe['share']:.0%} of the others for the k-NN probe of {probe['target']}"
        if probe.get("every")
        else ""
    )
    start = f", starting from {PurePath(config['initial']).name}" if config.get("initial") else ""
    start += f", Gram teacher {PurePath(config['gram_initial']).name}" if config.get("gram_initial") else ""
    return (
        f"Pretraining {name}: a vision transformer (width {model['dim']}, depth {model['depth']}, {model['heads']} "
        f"heads, patches of {model['patch_size']} pixels) was trained by self-distillation for {config['steps']} steps "
        f"of {config['batch_size']} slices with loss weights {terms} (seed {config['seed']}){start}; "
        f"{len(config['exclude'])} subjects were kept out{probed}."
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
    rows = tuple(
        (role, str(record["verb"]), digest(record["config"])[:SHORT], fingerprint(record)[:SHORT])
        for role, record in records.items()
    )
    caption = (
        "Artefacts with the first digits of the SHA-256 of their configuration, and of their fingerprint (verb, "
        "configuration, parents, hashes of all files)."
    )
    return Table(caption, ("artefact", "made by", "configuration", "fingerprint"), rows, folded=len(rows) > 12)


def _version_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Versions, more than one where artefacts were made with different ones."""
    known: dict[str, dict[str, None]] = {}
    for record in records.values():
        for name, version in record.get("versions", {}).items():
            known.setdefault(name, {})[str(version)] = None
    rows = tuple((name, ", ".join(versions)) for name, versions in known.items())
    return Table("Versions with which the artefacts were made.", ("what", "version"), rows)
