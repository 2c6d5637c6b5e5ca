"""INDI datasets (ABIDE, ADHD-200, CoRR): one folder per site with subjects in it, as BIDS or in the older layout.

BIDS: `<site>/sub-0050002[/ses-1]/anat/sub-0050002_T1w.nii.gz`. Older: `<site>/0050002/session_1/anat_1/mprage.nii.gz`.
The folder given may also be that of one site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from braindino.layouts.bids import Session, bids_sessions
from braindino.layouts.cases import Notes, first_of

EXPECTED = "<site>/sub-<id>[/ses-<n>]/anat/..._T1w.nii.gz or <site>/<id>/session_<n>/anat_1/mprage.nii.gz"
_IMAGES = ("mprage.nii.gz", "anat.nii.gz", "mprage.nii", "anat.nii")


@dataclass(frozen=True)
class Visit:
    """One session of one subject at a site."""

    site: str
    subject: str
    """Number as in the file names, with its leading zeros."""
    session: str
    """"" where the subject has a single unnamed session."""
    files: Session


def read_indi(root: Path, notes: Notes) -> list[Visit]:
    """Every session with an anatomical image, by site, subject and session; a subject id twice in one session is noted.

    Raises:
        ValueError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no folder {root}; expected one with {EXPECTED}")
    visits: dict[tuple[str, str], Visit] = {}
    for site in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        found = {**_older(site, notes), **bids_sessions(site, notes)}
        for (subject, session), files in sorted(found.items()):
            if (subject, session) in visits:
                notes.add("left out, the same subject and session were read before", f"{site.name}/{subject}")
            else:
                visits[subject, session] = Visit(site.name, subject, session, files)
    return list(visits.values())


def _older(site: Path, notes: Notes) -> dict[tuple[str, str], Session]:
    found = {}
    for folder in sorted(site.glob("*/session_*")):
        images = [path for name in _IMAGES for path in folder.glob(f"anat_*/{name}")]
        if images and folder.parent.name.isdigit():
            image = first_of(images, "T1w", notes)
            found[folder.parent.name, folder.name.removeprefix("session_")] = Session({"T1w": image})
    return found
