"""CoRR: test-retest scans of healthy people at many sites, T1w in every session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from braindino.layouts.bids import session_case
from braindino.layouts.cases import Notes, Tell, ordered
from braindino.layouts.indi import EXPECTED, read_indi
from braindino.layouts.tables import Row, find_rows, rows_by
from braindino.progress import note
from braindino.types import Case

SOURCE = (
    "fcon_1000.projects.nitrc.org/indi/CoRR: the site folders and CoRR_AggregatedPhenotypicData.csv in one folder; "
    "register at NITRC first."
)
TERMS = "CC BY-NC; some sites differ, see the page of each site."


def cases(root: Path, tell: Tell = note) -> tuple[Case, ...]:
    """Every session with `age` from the row of that very session (SUBID and SESSION: Baseline, Retest_1, ...).

    Sex is not read: its code differs from that of the other INDI datasets and the code book is not in the sheet.

    Raises:
        ValueError: no folder or no image in the expected layout.
    """
    root, notes = Path(root), Notes()
    visits = read_indi(root, notes)
    advice = "CoRR_AggregatedPhenotypicData.csv from the CoRR page"
    rows = find_rows(root, ("CoRR_AggregatedPhenotypicData*",), advice, notes)
    table = rows_by(rows, _session, "the phenotypic table", notes)
    result = []
    for visit in visits:
        name = f"{visit.subject.lstrip('0')}_{visit.session or '1'}"
        if table and name not in table:
            notes.add("no row for this session in the phenotypic table", f"{visit.subject}_{visit.session}")
        participant = {"age": table.get(name, Row(name, {}, notes)).number("AGE_AT_SCAN_1", "AGE_AT_SCAN", high=120)}
        result.append(session_case("corr", visit.subject, visit.session, visit.files, participant, visit.site))
    notes.tell(tell)
    return ordered(result, root, EXPECTED)


def _session(row: Mapping[str, str]) -> str:
    """`<id>_<n>` where Baseline is session 1 and Retest_<k> session k + 1; "" without an id."""
    subject, session = row.get("subid", "").lstrip("0"), row.get("session", "Baseline").lower()
    number = int(session.removeprefix("retest_")) + 1 if session.removeprefix("retest_").isdigit() else 1
    return f"{subject}_{number}" if subject else ""
