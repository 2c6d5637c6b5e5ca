"""The section on the corpus: who is in it, what was left out and why, what it looks like, who may be in it twice.

Tables are cut, so that the page of a corpus of any size stays small; what is not shown is counted.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from braindino.reporting.artefacts import Artefacts
from braindino.reporting.corpus_view import OLDEST, sessions_of, subjects_of
from braindino.reporting.figures import Figure
from braindino.reporting.figures_corpus import corpus_scans_figure, people_figure
from braindino.reporting.figures_scans import mosaic_figure
from braindino.reporting.page import Section, Table, Text, cell, counted, number, table_of, without_folders

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS, MOST_LISTED, MOST_KINDS = 40, 50, 20
"""Rows of a table of counts, of a list of single scans or pairs, and kinds of reasons."""
LONGEST_REASON = 400
SEXES = {"F": "female", "M": "male", "": "sex not known"}
EVERYTHING, FILE = "all", "(file)"
RANGE = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"


def corpus_section(found: Artefacts) -> Section:
    """Counts by cohort, contrast, site, age and sex, what was left out and why, pictures, overlaps."""
    if found.corpus is None:
        return Section("Corpus", ())
    scans, synthetic = found.corpus.scans, found.synthetic_corpus
    blocks: list[Text | Table | Figure] = [cohorts_table(scans)]
    if scans["age"].notna().any() or scans["sex"].isin(["F", "M"]).any():
        blocks.append(people_figure(subjects_of(scans), sessions_of(scans), synthetic))
    else:
        blocks.append(Text("No age and no sex is known: no participants table of the sources has them."))
    if scans["cohort"].nunique() > 1:
        blocks.append(counts_table(scans, ["contrast"], "Corpus by contrast."))
    blocks.append(counts_table(scans, ["cohort", "contrast"], "Corpus by cohort and contrast."))
    if (scans["site"] != "").any():
        blocks.append(counts_table(scans, ["cohort", "site"], "Corpus by site."))
    blocks.append(corpus_scans_figure(scans, synthetic))
    blocks.append(mosaic_figure(found.corpus.tiles, found.corpus.recipe))
    blocks += _overlaps(found.corpus.overlaps)
    if found.quarantine is not None and len(found.quarantine):
        blocks += left_out(found.quarantine, len(scans))
    else:
        blocks.append(Text("No scan was left out."))
    return Section("Corpus", tuple(blocks), synthetic)


def cohorts_table(scans: pd.DataFrame) -> Table:
    """Each cohort with its subjects, sessions, scans, slices, sexes and ages; a row of sums where there are several."""
    subjects, sessions = subjects_of(scans), sessions_of(scans)
    names = [str(name) for name in sorted(scans["cohort"].unique())]
    parts = [(name, subjects[subjects["cohort"] == name], sessions[sessions["cohort"] == name]) for name in names]
    if len(names) > 1:
        parts.append((EVERYTHING, subjects, sessions))
    rows = tuple(_cohort_row(*part) for part in parts)
    columns = ("cohort", "subjects", "sessions", "scans", "slices", *SEXES.values())
    return Table(
        "Corpus by cohort. Age in years: median over subjects, each at the first session with an age, and range over "
        f"all sessions; {OLDEST:.0f}+ is anything above {OLDEST:.0f}. What is not known is not guessed.",
        (*columns, "median age", "ages", "age not known"),
        rows,
    )


def _cohort_row(name: str, subjects: pd.DataFrame, sessions: pd.DataFrame) -> tuple[str, ...]:
    ages = sessions["age"].dropna()
    return (
        name,
        str(len(subjects)),
        *(str(subjects[column].sum()) for column in ("sessions", "scans", "slices")),
        *(_share(int((subjects["sex"] == sex).sum()), len(subjects)) for sex in SEXES),
        years(float(subjects["age"].median())) if len(ages) else "",
        f"{years(float(ages.min()))}{RANGE}{years(float(ages.max()))}" if len(ages) else "",
        _share(int(subjects["age"].isna().sum()), len(subjects)),
    )


def _share(count: int, total: int) -> str:
    """`3 (25%)`, on one line."""
    return f"{count}\N{NO-BREAK SPACE}({count / total:.0%})" if count else "0"


def years(age: float) -> str:
    """An age as it may be shown: one digit behind the point, everything above `OLDEST` alike."""
    return f"{OLDEST:.0f}+" if age >= OLDEST else f"{age:.1f}".removesuffix(".0")


def counts_table(scans: pd.DataFrame, by: list[str], caption: str) -> Table:
    """Subjects, scans and slices of each group; of many groups the largest, and a row that counts the others."""
    grouped = scans.groupby(by, sort=True)
    table = grouped.agg(
        subjects=("person", "nunique"), scans=("slices", "size"), slices=("slices", "sum")
    ).reset_index()
    shown = table.nlargest(MOST_ROWS, "slices").sort_index() if len(table) > MOST_ROWS else table
    found = table_of(shown, caption, folded=len(table) > 12)
    rest = table.drop(shown.index)
    if not len(rest):
        return found
    people = scans.set_index(by).loc[rest.set_index(by).index, "person"].nunique()
    sums = (people, rest["scans"].sum(), rest["slices"].sum())
    last = (f"and {len(rest)} more", *[""] * (len(by) - 1), *(cell(value) for value in sums))
    told = f"{caption.removesuffix('.')}: the {len(shown)} of {len(table)} with most slices."
    return Table(told, found.columns, (*found.rows, last), found.folded)


def _overlaps(pairs: pd.DataFrame) -> list[Text | Table]:
    """Who seems to be in the corpus twice."""
    if not len(pairs):
        return [Text("No two names were found to be one person (equal voxels, or similar brains).")]
    words = {"near": "similar pictures alone"}
    counts = pairs["evidence"].value_counts().items()
    kinds = ", ".join(f"{count} by {words.get(str(evidence), evidence)}" for evidence, count in counts)
    told = f"{counted(len(pairs), 'pair')} of names may be one person ({kinds}); docs/corpus.md says what this means."
    caption = f"Names that may be one person: {_part(len(pairs), 'pair', 'overlaps.tsv')}"
    shown = _some(pairs, "evidence")
    similar = ["" if math.isnan(value) else number(value) for value in shown["similarity"]]
    return [Text(told), table_of(shown.assign(similarity=similar), caption, folded=True)]


def left_out(quarantine: pd.DataFrame, kept: int) -> list[Text | Table]:
    """Scans that were left out, by kind of reason and one by one.

    Args:
        quarantine: `quarantine.tsv`, with at least one row.
        kept: number of scans that were not left out.
    """
    told = [shortened_reason(without_folders(reason)) for reason in quarantine["reason"]]
    kinds = [reason_kind(reason, path) for reason, path in zip(told, quarantine["path"], strict=True)]
    table = quarantine.assign(reason=told, kind=kinds)
    sizes = table["kind"].value_counts()
    rows = []
    for kind in sizes.index[:MOST_KINDS]:
        own = table[table["kind"] == kind]
        cohorts = [f"{name} {count}" for name, count in own["cohort"].value_counts().items()]
        more = f" and {len(cohorts) - 5} more" if len(cohorts) > 5 else ""
        rows.append((str(kind), str(len(own)), ", ".join(cohorts[:5]) + more, str(own["reason"].iloc[0])))
    if rest := sizes.iloc[MOST_KINDS:].tolist():
        rows.append((f"and {counted(len(rest), 'other kind')}", str(sum(rest)), "", ""))
    total = len(table) + kept
    share = f"{len(table)} of {counted(total, 'scan')} ({len(table) / total:.1%})"
    caption = f"Left out: {share}, by reason, in which … is a number or a name."
    columns = ("reason", "scans", "cohorts", "the first of them")
    listed = _some(table, "kind").drop(columns="kind")
    listed["reason"] = [without_file(*both) for both in listed[["reason", "path"]].to_numpy(str)]
    caption_of_list = f"Left out, each scan: {_part(len(table), 'scan', 'quarantine.tsv')}"
    return [Table(caption, columns, tuple(rows)), table_of(listed, caption_of_list, folded=True)]


def reason_kind(reason: str, path: str) -> str:
    """A reason without what is special to one scan: file names, quoted words and numbers become `…`."""
    kind = without_file(reason, path)
    kind = re.sub(r"[^\s:;,()]+\.(?:nii(?:\.gz)?|hdr|img|dcm)\b", FILE, kind)
    kind = re.sub(r"'[^']*'|\"[^\"]*\"", "…", kind)
    kind = re.sub(r"(?<![\w.])[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?![\w-])", "…", kind)
    return re.sub(r"…(?:[\s,x]+…)+", "…", kind)


def without_file(reason: str, path: str) -> str:
    """A reason in which the name of the scan's own file is `(file)`."""
    return re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-]|\.\w)", FILE, reason) if path else reason


def shortened_reason(reason: str) -> str:
    """The beginning of a reason: programs of others can say anything."""
    return reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 1] + "…"


def _some(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """At most `MOST_LISTED` rows, in their order, as evenly from the values of a column as they allow."""
    turn = table.groupby(by).cumcount()
    return table.loc[turn.sort_values(kind="stable").index[:MOST_LISTED]].sort_index()


def _part(count: int, noun: str, file: str) -> str:
    """How many of all rows are listed, and where the others are."""
    if count <= MOST_LISTED:
        return counted(count, noun)
    return f"{MOST_LISTED} shown of {counted(count, noun)}, all stand in {file} of the corpus"
