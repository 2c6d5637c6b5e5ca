"""Brain extraction by a program of others, called as a command on files: nothing of it is imported.

The program gets the first contrast as an uncompressed NIfTI file in RAS and must write a mask on the same grid; the
result is read verified and its grid compared.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from braindino.types import Volume
from braindino.volume.io import read_labels, write_nifti
from braindino.volume.recipe import COMMAND

SECONDS = 3600
"""A program that takes longer is ended."""
COMMANDS = {
    "deepbet": "deepbet-cli -i {input} -o {folder}/brain.nii -m {output} --no_gpu --no-skip_broken",
    "hd-bet": "hd-bet -i {input} -o {folder}/brain.nii.gz -device cpu --disable_tta --save_bet_mask --no_bet_image",
    "synthstrip": "mri_synthstrip -i {input} -m {output}",
}
"""Commands of the named extractors: deepbet 1.0, HD-BET 2, FreeSurfer's SynthStrip. On another device or with other
options write the recipe's `command: ...`."""
OUTPUTS = {"hd-bet": "brain_bet.nii.gz"}
"""Where a program that chooses the name of its mask puts it (HD-BET: the name of `-o` with `_bet`)."""
PACKAGES = {
    "deepbet": "pip install deepbet (MIT; weights in the wheel)",
    "hd-bet": "pip install hd-bet (Apache-2.0; fetches its weights on first use)",
    "synthstrip": "install FreeSurfer 7.3 or newer (its own licence)",
}


def run_extractor(volume: Volume, extractor: str) -> Bool[np.ndarray, "i j k"]:
    """Brain mask of `volume` by a named program or by `command: PROGRAM {input} {output}`.

    `{input}` becomes the image, `{output}` the wanted mask (`.nii.gz`), `{folder}` the temporary folder they are in.
    No shell is involved.

    Raises:
        ValueError: the program is missing, fails, takes longer than `SECONDS`, or gives no mask, an empty one, or one
            on another grid; the message has the last line that it wrote.
    """
    template = extractor.removeprefix(COMMAND) if extractor.startswith(COMMAND) else COMMANDS[extractor]
    with tempfile.TemporaryDirectory(prefix="braindino-") as place:
        image, output = Path(place) / "image.nii", Path(place) / "mask.nii.gz"
        write_nifti(image, volume.voxels[0], volume.affine)
        fill = {"{input}": str(image), "{output}": str(output), "{folder}": place}
        words = [_filled(word, fill) for word in shlex.split(template)]
        _run([_program(words[0], extractor), *words[1:]], extractor)
        found = Path(place) / OUTPUTS.get(extractor, output.name)
        if not found.is_file():
            raise ValueError(f"brain extractor {extractor!r} ended without writing a mask")
        try:
            mask = read_labels(found, volume) > 0
        except ValueError as error:
            raise ValueError(f"brain extractor {extractor!r} gave no valid mask: {error}") from None
    if not mask.any():
        raise ValueError(f"brain extractor {extractor!r} found no brain: its mask is empty")
    return np.asarray(mask)


def _filled(word: str, fill: dict[str, str]) -> str:
    for key, value in fill.items():
        word = word.replace(key, value)
    return word


def _program(name: str, extractor: str) -> str:
    """Path of a program: on the search path, or beside this Python (an environment that is not activated)."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        what = PACKAGES.get(extractor, "give its full path in recipe.brain_extractor")
        raise ValueError(f"brain extractor {extractor!r}: no program {name!r}; {what}")
    return found


def _run(command: list[str], extractor: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ValueError(f"brain extractor {extractor!r} did not end within {SECONDS} s") from None
    except OSError as error:
        raise ValueError(f"brain extractor {extractor!r} cannot be run: {error}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        last = lines[-1][:300] if lines else "it said nothing"
        raise ValueError(f"brain extractor {extractor!r} failed with exit code {done.returncode}: {last}")
