"""Counting of the faults that tests put in: what came of them, and the table of docs/faults.md.

A few of each kind by default. `make stress` (BRAINDINO_STRESS=1) injects the full numbers; each kind then writes its
own row of the table, so that a part of the tests can be run again without the rest.
"""

import os
import re
from pathlib import Path

from braindino.record import write_bytes

STRESS = bool(os.environ.get("BRAINDINO_STRESS"))
PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
HEAD = "| row | fault | injected | refused or recovered | harmless | silent | lost |"
"""`row` is the number of the fault catalogue."""
STRANGE_NAMES = ("a b", "-rf", "ä", "頭", "a;b", "$HOME", "a'b", 'a"b', "%s", "{x}", "a\nb", "#1", "~")
"""Of files and of people: what shells, tables, formats and file systems stumble over."""


def attempts(few, many):
    return range(many if STRESS else few)


class Count:
    """Outcomes of one kind of fault.

    Refused or recovered: a clear error, or the right result after all. Harmless: what came out is right as if there
    were no fault. Silent: something wrong came out and nobody was told. Lost: finished work was destroyed.
    """

    def __init__(self, row, fault):
        self.row, self.fault = row, fault
        self.refused = self.harmless = self.silent = self.lost = 0

    def of(self, action, is_true, error=(ValueError,)):
        """Refused where `action()` raises one of `error`, else harmless or silent as `is_true(result)` says."""
        try:
            found = action()
        except error:
            self.refused += 1
            return
        good = bool(is_true(found))
        self.harmless += good
        self.silent += not good

    def done(self, *, least_refused=1, note=""):
        """Nothing silent, nothing lost, at least `least_refused` refused; writes the row where all were injected."""
        total = self.refused + self.harmless + self.silent + self.lost
        cells = [self.row, self.fault, total, self.refused, f"{self.harmless}{note}", self.silent, self.lost]
        assert total and self.silent == self.lost == 0 and self.refused >= least_refused, cells
        if STRESS:
            _write("| " + " | ".join(map(str, cells)) + " |")


def _write(row):
    """Put one row into the table of the page, in place of the one of the same kind."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, behind = text.partition(HEAD + "\n")
    lines = re.match(r"(?:\|.*\n)*", behind)[0].splitlines()
    after = behind[sum(len(line) + 1 for line in lines) :]
    known = {line.split("|")[2]: line for line in lines[1:]}
    known[row.split("|")[2]] = row
    rows = sorted(known.values(), key=lambda line: int(line.split("|")[1]))
    table = "".join(line + "\n" for line in [HEAD, "| --- " * 7 + "|", *rows])
    write_bytes(PAGE, (before + table + after).encode())
