"""Synthetic subjects made by `braindino synthesize`: simulated images from real anatomy, every label known."""

from __future__ import annotations

from pathlib import Path

from braindino.record import read_record
from braindino.types import Case
from braindino.volume.bids import read_bids

SOURCE = "Made on this machine by 'braindino synthesize'; not patients."
TERMS = "Free of restrictions; the packaged anatomies carry their own notices."


def cases(root: Path) -> tuple[Case, ...]:
    """Every synthetic subject with its scans and the truth about it.

    Raises:
        ValueError: the folder was not made by 'braindino synthesize' or is unfinished.
    """
    read_record(root, "synthesize", verify=False)
    return read_bids(root, "synthetic")
