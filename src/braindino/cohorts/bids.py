"""Any BIDS dataset, raw or derivative, with its participants table."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.bids import read_bids
from braindino.layouts.cases import Tell
from braindino.progress import note
from braindino.types import Case

SOURCE = "A folder in the Brain Imaging Data Structure (bids.neuroimaging.io), for example from openneuro.org."
TERMS = "Those of the dataset; see its dataset_description.json and README."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with its scans and its participants row; the cohort's name is `bids:` and the folder's name.

    Raises:
        ValueError: as `layouts.bids.read_bids`.
    """
    return read_bids(root, f"bids:{Path(root).resolve().name}", tell)
