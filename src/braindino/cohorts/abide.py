"""ABIDE I (and II): autism and controls at 20 sites, 1112 people in the sheet of ABIDE I, T1w, one scan each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.indi import EXPECTED, read_indi
from braindino.layouts.tables import find_rows, note_unused, row_of, rows_by, to_number
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "fcon_1000.projects.nitrc.org/indi/abide: the site folders and Phenotypic_V1_0b.csv (ABIDE II: "
    "ABIDEII_Composite_Phenotypic.csv) in one folder."
)
TERMS = "CC BY-NC-SA 3.0; register at NITRC first."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with `diagnosis` from DX_GROUP (1 autism, 2 healthy), `age` and `sex`; the site is SITE_ID.

    Missing is -9999 or blank. DX_GROUP decides: people with autism and DSM code 0 stay autism. Ids have leading zeros
    in file names only.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    visits = read_indi(root, notes)
    tables = ("Phenotypic_V1_0b*", "ABIDEII_Composite_Phenotypic*")
    rows = find_rows(root, tables, "Phenotypic_V1_0b.csv from the ABIDE page", notes)
    table = rows_by(rows, _number, "the phenotypic table", notes)
    result = []
    for visit in visits:
        row = row_of(table, visit.subject.lstrip("0"), "the phenotypic table", notes, visit.subject)
        participant = {
            "age": row.number("AGE_AT_SCAN", high=120),
            "sex": row.choice({"1": "M", "2": "F"}, "SEX"),
            "diagnosis": row.choice({"1": "autism", "2": "healthy"}, "DX_GROUP"),
        }
        site = row.text("SITE_ID") or visit.site
        result.append(session_case("abide", visit.subject, visit.session, visit.files, participant, site))
    note_unused(table, (visit.subject.lstrip("0") for visit in visits), "the phenotypic table", notes)
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _number(row: Mapping[str, str]) -> str:
    number = to_number(row.get("subid", ""))
    return "" if number is None else f"{number:.0f}"
