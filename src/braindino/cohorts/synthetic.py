"""Synthetic subjects made by `braindino synthesize`: simulated images from real anatomy, every label known."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.bids import read_bids
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.record import read_record
from braindino.types import Case

SOURCE = "Made on this machine by 'braindino synthesize'; not patients."
TERMS = "Free of restrictions; the packaged anatomies carry their own notices."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every synthetic subject with its scans and the truth about it.

    Raises:
        ValueError: the folder was not made by 'braindino synthesize' or is unfinished.
    """
    read_record(root, "synthesize", verify=False)
    return read_bids(root, "synthetic", tell)
