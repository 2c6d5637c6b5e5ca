"""Any BIDS dataset, raw or derivative, with its participants table."""

from __future__ import annotations

from pathlib import Path

from braindino.types import Case
from braindino.volume.bids import read_bids

SOURCE = "A folder in the Brain Imaging Data Structure (bids.neuroimaging.io), for example from openneuro.org."
TERMS = "Those of the dataset; see its dataset_description.json and README."


def cases(root: Path) -> tuple[Case, ...]:
    """Every session with its scans and its participants row.

    Raises:
        ValueError: as `volume.bids.read_bids`.
    """
    return read_bids(root, "bids")
