"""Sections on what went in: the corpus, some scans, the training runs."""

from __future__ import annotations

from collections.abc import Iterator

from braindino.reporting.artefacts import Artefacts, is_synthetic, is_synthetic_case
from braindino.reporting.figures import Figure
from braindino.reporting.figures_scans import mosaic_figure, planes_figure, similarity_figure
from braindino.reporting.figures_training import training_figure
from braindino.reporting.page import Section, Table, Text, counted, table_of, without_folders
from braindino.types import Case
from braindino.volume.brain import brain_mask
from braindino.volume.io import read_case

SCANS_OF_A_KIND = 3
"""At most so many real and so many synthetic cases are pictured."""


def corpus_section(found: Artefacts) -> Section:
    """Counts by cohort, contrast and site, what was left out and why, and random slices."""
    if found.corpus is None:
        return Section("Corpus", ())
    index = found.corpus.index
    blocks: list[Text | Table | Figure] = [_counts(found, ["cohort", "contrast"], "Corpus by cohort and contrast.")]
    if (index["site"] != "").any():
        blocks.append(_counts(found, ["cohort", "site"], "Corpus by site."))
    blocks.append(mosaic_figure(found.corpus))
    left_out = found.quarantine
    if left_out is not None and len(left_out):
        left_out = left_out.assign(reason=[without_folders(reason) for reason in left_out["reason"]])
        kinds = [reason.replace(path, "(file)") for reason, path in left_out[["reason", "path"]].to_numpy(str)]
        reasons = left_out.assign(reason=kinds).groupby(["cohort", "reason"]).size().rename("scans").reset_index()
        blocks.append(table_of(reasons, f"Left out: {counted(len(left_out), 'scan')}, by reason."))
        blocks.append(table_of(left_out, f"Left out, each scan ({len(left_out)})", folded=True))
    else:
        blocks.append(Text("No scan was left out."))
    return Section("Corpus", tuple(blocks), found.synthetic_corpus)


def _counts(found: Artefacts, by: list[str], caption: str) -> Table:
    assert found.corpus is not None
    index = found.corpus.index
    people = index.assign(person=index["cohort"] + "/" + index["subject"])
    counts = people.groupby(by).agg(subjects=("person", "nunique"), slices=("person", "size")).reset_index()
    counts["kind"] = ["synthetic" if is_synthetic(str(name)) else "real" for name in counts["cohort"]]
    return table_of(counts, caption, folded=len(counts) > 12)


def scans_section(found: Artefacts) -> Section:
    """A few cases in three planes with the brain mask that the recipe uses, real ones first."""
    blocks: list[Text | Table | Figure] = []
    for case in chosen_cases(found):
        try:
            volume = read_case(case.scans)
            mask, told = brain_mask(volume)
        except ValueError as error:
            blocks.append(Text(f"{case.name} cannot be shown: {without_folders(str(error))}", "note"))
            continue
        label = "synthetic subject" if is_synthetic_case(case) else "real scan"
        group = _group(case)
        blocks.append(planes_figure(case.name, f"{label}{f', {group}' if group else ''}", volume, mask, told))
    if blocks:
        blocks.insert(
            0, Text("Pictures of whole heads can show a face: pass this page on only as the cohort's terms allow.")
        )
    return Section("Scans", tuple(blocks))


def chosen_cases(found: Artefacts) -> list[Case]:
    """Real cases first, then synthetic ones of as many different groups as there are."""
    real = [case for case in found.cases.values() if not is_synthetic_case(case)]
    made = [case for case in found.cases.values() if is_synthetic_case(case)]
    groups = list({_group(case): case for case in reversed(made)}.values())[::-1]
    rest = [case for case in made if case not in groups]
    return real[:SCANS_OF_A_KIND] + (groups + rest)[:SCANS_OF_A_KIND]


def _group(case: Case) -> str:
    return str(case.participant.get("group") or case.participant.get("diagnosis") or "")


def training_section(found: Artefacts) -> Section:
    """Losses and monitors of each run."""
    figures = [training_figure(name, log, found.records[f"run {name}"]["config"]) for name, log in found.logs.items()]
    return Section("Training", tuple(figures), found.synthetic_corpus)


def similarity_section(found: Artefacts) -> Section:
    """Patch similarity maps per encoder."""
    maps = found.similarity
    blocks = () if maps is None else (similarity_figure(maps.image, maps.points, maps.maps),)
    return Section("Patch similarity", blocks, found.synthetic_results)


def analysis_section(found: Artefacts) -> Section:
    """k-NN, CKA, effective rank and site probe."""
    return Section("Analysis", tuple(_analysis_tables(found)), found.synthetic_results)


CAPTIONS = {
    "knn": "k nearest neighbours on frozen features: share of test cases classified rightly, with its 95 % interval. "
    "Nothing is learned, so it says what the features hold by themselves.",
    "cka": "Linear CKA between encoders: 1 for features equal up to rotation and scale, 0 for unrelated ones.",
    "encoders": "Effective rank (how many directions the features use) and how well a linear probe reads the site off "
    "them: at site chance there is no site effect, well above it the features carry the scanner.",
}


def _analysis_tables(found: Artefacts) -> Iterator[Table]:
    for name, table in found.analysis.items():
        if len(table):
            yield table_of(table, CAPTIONS[name])
