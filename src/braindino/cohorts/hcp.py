"""HCP Young Adult: 1113 people of 22 to 36 years and more, T1w and T2w at 0.7 mm; many are twins and siblings."""

from __future__ import annotations

from pathlib import Path

from braindino.layouts.cases import Notes, Tell, make_case, ordered
from braindino.layouts.tables import Row, find_rows, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "humanconnectome.org, Young Adult: unpacked subject folders (structural preprocessed, or unprocessed) with "
    "unrestricted_*.csv and, after a second application, RESTRICTED_*.csv beside them."
)
TERMS = "HCP open access terms; exact age and family need the restricted terms, and may not be published per person."
EXPECTED = "<subject>/T1w/T1w_acpc_dc_restore.nii.gz or <subject>/unprocessed/3T/T1w_MPR1/<subject>_3T_T1w_MPR1.nii.gz"
_IMAGES = {
    "T1w": ("T1w/T1w_acpc_dc_restore.nii.gz", "unprocessed/3T/T1w_MPR1/{}_3T_T1w_MPR1.nii.gz"),
    "T2w": ("T1w/T2w_acpc_dc_restore.nii.gz", "unprocessed/3T/T2w_SPC1/{}_3T_T2w_SPC1.nii.gz"),
}


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """One case per subject with `sex`, `age_band` (5 years, as text) and, from the restricted table, `age`, `family`.

    Preprocessed images are taken where they are, then with their brain mask. Told: subjects whose family is unknown,
    since relatives may then stand on both sides of a split.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    people = [path for path in sorted(root.glob("*")) if path.is_dir() and path.name.isdigit()]
    tables = [
        rows_by(rows, lambda row: row.get("subject", ""), what, notes)
        for what in ("unrestricted", "RESTRICTED")
        for rows in [find_rows(root, (f"{what}*",), f"{what}_*.csv from ConnectomeDB", notes) if people else []]
    ]
    result = []
    for folder in people:
        found = {name: _image(folder, paths) for name, paths in _IMAGES.items()}
        images = {name: path for name, path in found.items() if path}
        if not images:
            notes.add("left out, no structural image in its folder", folder.name)
            continue
        opened, restricted = (table.get(folder.name, Row(folder.name, {}, notes)) for table in tables)
        family = restricted.text("Family_ID")
        if not family:
            notes.add("no Family_ID: relatives may stand on both sides of a split", folder.name)
        participant = {
            "age": restricted.number("Age_in_Yrs", high=120),
            "age_band": opened.text("Age"),
            "sex": opened.choice({"m": "M", "f": "F"}, "Gender"),
            "family": family,
        }
        mask = folder / "T1w" / "brainmask_fs.nii.gz"
        ready = mask.is_file() and all("acpc" in path.name for path in images.values())
        result.append(
            make_case("hcp", folder.name, images, participant=participant, brain_mask=mask if ready else None)
        )
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _image(folder: Path, names: tuple[str, ...]) -> Path | None:
    paths = (folder / name.format(folder.name) for name in names)
    return next((path for path in paths if path.is_file()), None)
