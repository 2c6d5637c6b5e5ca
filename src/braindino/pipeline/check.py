"""check: what is wrong with an input and what to do about it, without running anything on it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from braindino import catalog
from braindino.config import read_config
from braindino.layouts.labels import check_labels
from braindino.pipeline.sources import listed_sources, read_source
from braindino.pretraining.config import PretrainConfig
from braindino.progress import progress
from braindino.record import RECORD, read_record
from braindino.types import Case, Volume
from braindino.volume.brain import brain_mask
from braindino.volume.dicom import is_dicom
from braindino.volume.io import read_case, read_volume

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Files of an encoder, and of weights of others."""


def check(target: str, *, assume_orientation: str | None = None, volume: str | None = None) -> list[str]:
    """Problems of one input, as lines that say what to do; prints what is good.

    A scan is read and verified as a whole, an artefact folder against its record, weights against their digest (those
    of others key by key, see `read_foreign`), a config against its dataclass. Of a cohort it is printed what its
    plug-in left out, decided or found in conflict (these are published defects, or labels that are not there: no
    problem of the input); every scan is read and verified, and label maps must hold the values of their scheme. Of a
    .toml with `sources` each source is checked.
    `assume_orientation` and `volume` are for scans (see `read_volume`).
    """
    path = Path(target.partition("=")[2] or target)
    if path.suffix == ".toml" and "sources" in _keys(path):
        checked = (
            (one, check(one, assume_orientation=assume_orientation, volume=volume)) for one in listed_sources([target])
        )
        return [f"{source}: {line}" for source, lines in checked for line in lines]
    kinds: list[tuple[bool, Callable[[], str]]] = [
        (not path.exists(), lambda: _missing(path)),
        (path.is_dir() and (path / RECORD).is_file() and "=" not in target, lambda: _artefact(path)),
        (path.suffix in (".toml", ".json"), lambda: _config(path)),
        (path.suffix in WEIGHTS or any(path.glob("model*.safetensors")), lambda: _weights(path)),
        (path.is_file() and "=" not in target, lambda: _scan(path, assume_orientation, volume)),
        (path.is_dir() and "=" not in target and is_dicom(path), lambda: _scan(path, assume_orientation, volume)),
    ]
    for fits, look in kinds:
        if fits:
            try:
                print(look())
            except (ValueError, OSError) as error:
                return [str(error)]
            return []
    told: list[str] = []
    try:
        name, cases = read_source(target, volume, tell=told.append)
    except (ValueError, OSError) as error:
        return [str(error), *_where_from(target.partition("=")[0] if "=" in target else "")]
    return _cohort(name, cases, told, assume_orientation)


def _keys(path: Path) -> set[str]:
    """Top-level keys of a TOML file; none where it is not one, which `_config` then explains."""
    try:
        return set(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError):
        return set()


def _missing(path: Path) -> str:
    raise ValueError(f"no such file or folder: {path}")


def _artefact(path: Path) -> str:
    record = read_record(path)
    return f"{path}: made by 'braindino {record['verb']}', {len(record['files'])} files intact, {record['facts']}"


def _config(path: Path) -> str:
    config = read_config(path, PretrainConfig)
    return f"{path}: valid pretraining config, {config.steps} steps of {config.batch_size} slices"


def _weights(path: Path) -> str:
    from braindino.model.foreign import read_foreign
    from braindino.model.weights import is_encoder_file, load_encoder

    if not is_encoder_file(path):
        if told := _of_volumes(path):
            return told
        _, config, report = read_foreign(path)
        return f"{path}: complete and finite, {config.in_channels} channels; {report.short()}"
    model, metadata = load_encoder(path)
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{path}: {count} parameters, {model.config}, digest {metadata['digest'][:12]}"


def _of_volumes(path: Path) -> str:
    """What a published encoder of whole volumes says of its own file; nothing where the file is none of theirs."""
    for name in ("brainiac", "bm_mae", "brainmvp"):
        try:
            encoder = catalog.load("encoders", name).load(path)
        except ValueError as error:
            if f"{path} holds no " in str(error):
                continue
            raise
        return f"{path}: complete and finite, for --encoder {name}; {encoder.report.short()}"
    return ""


def _scan(path: Path, assume: str | None, number: str | None) -> str:
    volume = read_volume(path, volume=number, assume_orientation=assume)
    mask, told = brain_mask(volume)
    size = " x ".join(str(n) for n in volume.voxels.shape[1:])
    spacing = " x ".join(f"{mm:.2f}" for mm in volume.spacing_mm)
    millilitres = mask.sum() * volume.spacing_mm[0] * volume.spacing_mm[1] * volume.spacing_mm[2] / 1000
    return f"{path}: {size} voxels of {spacing} mm; {'; '.join(volume.history)}; {told}, {millilitres:.0f} ml"


def _cohort(name: str, cases: Sequence[Case], told: Sequence[str], assume: str | None) -> list[str]:
    """Prints counts, participant columns, notes and origin; one line per scan or label map that cannot be used."""
    problems = []
    with progress(f"check {name}", len(cases)) as advance:
        for case in cases:
            for scan in case.scans:
                try:
                    _labels(read_case([scan], assume_orientation=assume), case)
                except (ValueError, OSError) as error:
                    problems.append(f"{case.name} {scan.contrast}: {error}")
            advance()
    contrasts = Counter(scan.contrast for case in cases for scan in case.scans)
    subjects = len({case.subject for case in cases})
    counted = ", ".join(f"{count} {contrast}" for contrast, count in sorted(contrasts.items()))
    print(f"{name}: {subjects} subjects, {len(cases)} sessions, {counted}")
    columns = Counter(column for case in cases for column in case.participant)
    print("known: " + (", ".join(f"{column} of {count}" for column, count in sorted(columns.items())) or "no label"))
    sites = Counter(case.site for case in cases if case.site)
    if sites:
        print("sites: " + ", ".join(f"{site} {count}" for site, count in sorted(sites.items())))
    for line in told:
        print(f"note: {line}")
    for line in _where_from(name.partition(":")[0]):
        print(line)
    return problems


def _labels(volume: Volume, case: Case) -> None:
    """Raises ValueError where a label map holds values that its scheme does not know; without a scheme all may be."""
    scheme = case.participant.get("label_scheme")
    if volume.label_map is not None and scheme:
        check_labels(str(scheme), np.unique(volume.label_map).tolist())


def _where_from(cohort: str) -> list[str]:
    """Where a cohort is to be had and under which terms."""
    if cohort not in catalog.names("cohorts"):
        return []
    plugin = catalog.load("cohorts", cohort)
    return [f"source: {plugin.SOURCE}", f"terms: {plugin.TERMS}"]
