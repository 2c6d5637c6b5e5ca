"""Molecular words of glioma tables, in their many spellings."""

from __future__ import annotations

import re

from braindino.layouts.tables import Row

_UNKNOWN = ("indeterminate", "nos", "nec", "nosnec", "notdetermined", "nottested", "pending")


def idh(row: Row, *columns: str) -> str:
    """ "wildtype" or "mutant" (any IDH1 or IDH2 mutation); "" where unknown; other spellings are noted."""
    text = row.text(*columns)
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    if not plain or plain in _UNKNOWN:
        return ""
    if re.search(r"wild|^wt$|^idh[12]?wt$", plain):
        return "wildtype"
    if re.search(r"mut|r132|r172|^idh[12]$", plain):
        return "mutant"
    row.notes.add(f"{columns[0]} is {text!r}, neither a wildtype nor a mutation, and is left empty", row.name)
    return ""


def mgmt(row: Row, *columns: str) -> str:
    """Promoter of MGMT: "methylated" or "unmethylated"; "" where unknown; other spellings are noted."""
    text = row.text(*columns)
    plain = re.sub(r"[^a-z]", "", text.lower())
    if not plain or plain in _UNKNOWN:
        return ""
    codes = {"positive": "methylated", "methylated": "methylated", "negative": "unmethylated"}
    found = codes.get(plain, "unmethylated" if plain in ("unmethylated", "notmethylated") else "")
    if not found:
        row.notes.add(f"{columns[0]} is {text!r}, neither methylated nor unmethylated, and is left empty", row.name)
    return found
