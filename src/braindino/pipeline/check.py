"""check: what is wrong with an input and what to do about it, without running anything on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from braindino import catalog
from braindino.config import read_config
from braindino.pipeline.prepare import read_source
from braindino.pretraining.config import PretrainConfig
from braindino.progress import progress
from braindino.record import RECORD, read_record
from braindino.types import Case
from braindino.volume.brain import brain_mask
from braindino.volume.dicom import is_dicom
from braindino.volume.io import read_case, read_volume


def check(target: str, *, assume_orientation: str | None = None, volume: str | None = None) -> list[str]:
    """Problems of one input, as lines that say what to do; prints what is good.

    A scan is read and verified as a whole, a cohort scan by scan, an artefact folder against its record, weights
    against their digest, a config against its dataclass. `assume_orientation` and `volume` are for scans (see
    `read_volume`).
    """
    path = Path(target.partition("=")[2] or target)
    kinds: list[tuple[bool, Callable[[], str]]] = [
        (not path.exists(), lambda: _missing(path)),
        (path.is_dir() and (path / RECORD).is_file() and "=" not in target, lambda: _artefact(path)),
        (path.suffix in (".toml", ".json"), lambda: _config(path)),
        (path.suffix == ".safetensors", lambda: _weights(path)),
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
    try:
        name, cases = read_source(target, volume)
    except (ValueError, OSError) as error:
        return [str(error)]
    return _cohort(name, cases, assume_orientation)


def _missing(path: Path) -> str:
    raise ValueError(f"no such file or folder: {path}")


def _artefact(path: Path) -> str:
    record = read_record(path)
    return f"{path}: made by 'braindino {record['verb']}', {len(record['files'])} files intact, {record['facts']}"


def _config(path: Path) -> str:
    config = read_config(path, PretrainConfig)
    return f"{path}: valid pretraining config, {config.steps} steps of {config.batch_size} slices"


def _weights(path: Path) -> str:
    from braindino.model.weights import load_encoder

    model, metadata = load_encoder(path)
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{path}: {count} parameters, {model.config}, digest {metadata['digest'][:12]}"


def _scan(path: Path, assume: str | None, number: str | None) -> str:
    volume = read_volume(path, volume=number, assume_orientation=assume)
    mask, told = brain_mask(volume)
    size = " x ".join(str(n) for n in volume.voxels.shape[1:])
    spacing = " x ".join(f"{mm:.2f}" for mm in volume.spacing_mm)
    millilitres = mask.sum() * volume.spacing_mm[0] * volume.spacing_mm[1] * volume.spacing_mm[2] / 1000
    return f"{path}: {size} voxels of {spacing} mm; {'; '.join(volume.history)}; {told}, {millilitres:.0f} ml"


def _cohort(name: str, cases: Sequence[Case], assume: str | None) -> list[str]:
    """Counts of a cohort, and one line per scan that cannot be read."""
    problems = []
    with progress(f"check {name}", len(cases)) as advance:
        for case in cases:
            for scan in case.scans:
                try:
                    read_case([scan], assume_orientation=assume)
                except (ValueError, OSError) as error:
                    problems.append(f"{case.name} {scan.contrast}: {error}")
            advance()
    contrasts = Counter(scan.contrast for case in cases for scan in case.scans)
    subjects = len({case.subject for case in cases})
    counted = ", ".join(f"{count} {contrast}" for contrast, count in sorted(contrasts.items()))
    print(f"{name}: {subjects} subjects, {len(cases)} sessions, {counted}")
    plugin = catalog.load("cohorts", name.partition(":")[0])
    print(f"source: {plugin.SOURCE}\nterms: {plugin.TERMS}")
    return problems
