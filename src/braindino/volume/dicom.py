"""A DICOM series to NIfTI by `dcm2niix` (extra `dicom`), in a temporary folder, under names that carry no identity."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPLATE = "%s_%p"
"""File names: series number and protocol. Never %n, %i or %g (patient's name and ID, accession number)."""
OPTIONS = ("-g", "i", "-f", TEMPLATE, "-b", "y", "-ba", "y", "-z", "n", "-w", "2", "-i", "n", "-l", "o")
"""No defaults file, anonymous sidecar, uncompressed, nothing overwritten, nothing left out, intensities as stored."""
SECONDS = 1800
SPECIAL = ("_ph", "_real", "_imaginary", "_ADC", "_Eq", "_Tilt", "_ROI")
"""Endings that dcm2niix gives to what is not a magnitude image as acquired: taken only by name."""
FAILURES = {
    2: "no DICOM file in it",
    4: "a DICOM file in it is damaged",
    7: "no room or right to write",
    8: "only some of its series could be converted",
}
"""What dcm2niix's exit codes mean."""
WARNINGS = {
    "Missing images?": "images of the series are missing",
    "Interslice distance varies": "its slices are not evenly spaced",
}
"""Sentences of dcm2niix that are passed on, in words without names of files."""


def is_dicom(folder: Path) -> bool:
    """True where a file in `folder` (not below it) has DICOM's magic bytes after its preamble of 128 bytes."""
    return any(_has_magic(path) for path in sorted(folder.iterdir()) if path.is_file())


@contextmanager
def converted(folder: Path, choice: str | None) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The NIfTI file of the series in `folder`, for as long as the context lasts, and what was decided.

    One series can give several images (echoes, phase, coils, a derived ADC map, resampled slices): never is the first
    one taken silently.

    Args:
        folder: holds the DICOM files, at most five levels deep.
        choice: name of the wanted image as the error lists it.

    Raises:
        ValueError: dcm2niix is missing or fails, no such image, or several images and no choice.
    """
    program = _program(folder)
    with tempfile.TemporaryDirectory(prefix="braindino-") as place:
        command = [program, *OPTIONS, "-o", place, str(folder.resolve())]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{folder}: dcm2niix did not end within {SECONDS} s") from None
        said = done.stdout.decode("utf-8", "replace")
        warnings = [meaning for sentence, meaning in WARNINGS.items() if sentence in said]
        images = {path.stem: path for path in sorted(Path(place).glob("*.nii"))}
        if done.returncode or not images:
            why = FAILURES.get(done.returncode, f"exit code {done.returncode}" if done.returncode else "no image in it")
            why = "; ".join([why, *warnings])
            raise ValueError(f"{folder} is a folder but no DICOM series that dcm2niix can convert: {why}")
        name = _choose(folder, images, choice)
        told = [f"DICOM series {name} converted by {said.partition('  ')[0].strip()}"]
        told += [f"warning: {meaning}" for meaning in warnings]
        if "DERIVED" in (kind := _image_type(images[name])):
            told.append(f"warning: the scanner calls this image derived ({', '.join(kind)})")
        yield images[name], tuple(told)


def _choose(folder: Path, images: dict[str, Path], choice: str | None) -> str:
    listed = ", ".join(images)
    if choice is not None:
        if choice not in images:
            raise ValueError(f"{folder} has no image {choice!r}; it has {listed}")
        return choice
    if len(images) > 1:
        raise ValueError(
            f"{folder} holds {len(images)} images: {listed}; say which one, for example --volume {next(iter(images))}"
        )
    name = next(iter(images))
    if name.endswith(SPECIAL):
        raise ValueError(f"{folder} holds only {name}, which is no plain image; if you want it say --volume {name}")
    return name


def _program(folder: Path) -> str:
    """Path of dcm2niix: the wheel's, else the one on the search path."""
    try:
        return str(importlib.import_module("dcm2niix").bin)
    except ImportError:
        found = shutil.which("dcm2niix")
    if found is None:
        raise ValueError(
            f"{folder} is a folder; DICOM series need dcm2niix, which is missing: pip install 'braindino[dicom]'"
        )
    return found


def _image_type(image: Path) -> tuple[str, ...]:
    """DICOM's ImageType from the sidecar, empty where there is none."""
    sidecar = image.with_suffix(".json")
    if not sidecar.is_file():
        return ()
    found = json.loads(sidecar.read_text(encoding="utf-8", errors="replace")).get("ImageType", [])
    return tuple(str(part) for part in found)


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
