"""Names and cells that want to be more than text: formulas, paths out of a folder, links, strange file names."""

import json

import numpy as np
import pandas as pd
import pytest

from braindino import catalog
from braindino.corpus.shards import open_corpus
from braindino.pipeline.prepare import prepare
from braindino.record import (
    claimed,
    is_done,
    read_record,
    read_table,
    write_array,
    write_bytes,
    write_record,
    write_table,
)
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from faults import STRANGE_NAMES, Count, attempts
from phantom import head
from trees import sheet

RECIPE = Recipe(spacing_mm=8.0, size_px=24, slices=4)
SPELLS = [
    "1+1",
    "cmd|' /C calc'!A0",
    "SUM(A1)",
    "x",
    'HYPERLINK("http://x")',
    " 1",
    "2\n3",
    '"q"',
    "1_0",
    "nan",
    "1e",
    "",
]


def test_cells_that_a_spreadsheet_would_run_come_back_as_they_were(tmp_path):
    cells = [start + spell for start in ("=", "+", "-", "@", "\t", "\r", "\0") for spell in SPELLS]
    plain = ["-3.5", "+2e3", "-.5", "x=1", "07", "'", "a\rb", "a\0b", "'=x", "''-y", "ä\t頭", "-0"]
    table = pd.DataFrame({"cell": cells + plain, "number": np.linspace(-1e9, 1e-9, len(cells + plain))})
    write_table(tmp_path / "t.tsv", table)
    read, count = (
        read_table(tmp_path / "t.tsv", text=("cell",)),
        Count(27, "cells that begin a formula, and plain ones"),
    )
    assert len(read) == len(table) and np.allclose(read["number"], table["number"], rtol=1e-8)
    raw = pd.read_csv(tmp_path / "t.tsv", sep="\t", dtype=str, keep_default_na=False, engine="python")["cell"]
    for cell, back, stored in zip(table["cell"], read["cell"], raw, strict=True):
        safe = not stored.startswith(("=", "+", "-", "@", "\t", "\r", "\0")) or cell in ("-3.5", "+2e3", "-.5", "-0")
        good = safe and back == cell
        count.refused += good and stored != cell
        count.harmless += good and stored == cell
        count.silent += not good
    count.done(least_refused=len(cells))


OUT = [
    "../x",
    "../../x",
    "..",
    "a/../../x",
    "/etc/passwd",
    "/tmp/x",
    "a/b",
    "..\\x",
    "x/",
    "/",
    "./x/../../y",
    "~/../x",
]


def test_ids_of_a_manifest_never_lead_out(tmp_path):
    count = Count(26, "ids of a manifest with a path in them")
    (tmp_path / "a.nii").touch()
    for column in ("subject", "session"):
        for name in OUT:
            row = {"subject": "s", "session": "1"} | {column: name}
            sheet(tmp_path / "m.csv", ["path", "contrast", *row], [["a.nii", "T1w", *row.values()]])
            count.of(lambda: catalog.load("cohorts", "csv").cases(tmp_path / "m.csv", print),
                     lambda cases: all("/" not in case.name for case in cases))  # fmt: skip
    count.done(least_refused=2 * len(OUT) - 2)


def test_a_record_never_vouches_for_files_outside(tmp_path):
    count, out = Count(26, "records that name files outside of their folder"), tmp_path / "artefact"
    write_bytes(tmp_path / "secret", b"abc")
    write_bytes(out / "values", b"abc")
    good = write_record(out, "encode", {})
    for name in ("../secret", "a/../../secret", str(tmp_path / "secret"), "../artefact/values", "x/../values"):
        record = good | {"files": {name: good["files"]["values"]}}
        (out / "record.json").write_text(json.dumps(record))
        for read in (lambda: read_record(out), lambda: read_record(out, verify=False), lambda: open_corpus(out)):
            with pytest.raises(ValueError, match="damaged"):
                read()
        assert not is_done(out, "encode", {})
        count.refused += 1
    count.done()


def test_links_in_an_artefact_are_replaced_not_followed(tmp_path):
    count = Count(26, "links planted where a verb writes")
    for number, write in enumerate(
        (
            lambda path: write_bytes(path, b"new"),
            lambda path: write_array(path, np.zeros(3)),
            lambda path: write_table(path, pd.DataFrame({"a": [1]})),
        )
    ):
        outside, path = tmp_path / f"outside{number}", tmp_path / "out" / f"file{number}"
        outside.write_bytes(b"precious")
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(outside)
        write(path)
        assert outside.read_bytes() == b"precious" and not path.is_symlink()
        count.refused += 1
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "not-mine")
    with pytest.raises(OSError, match="symbolic links"), claimed(tmp_path / "out"):
        pass
    assert not (tmp_path / "not-mine").exists()
    count.refused += 1
    count.done()


def test_links_in_a_bids_tree(tmp_path):
    """A link to a scan elsewhere is how datalad keeps files; one to anything else is a bad scan, loops end."""
    volume, count = head((30, 36, 27), (5.0, 5.0, 5.0)), Count(26, "links in a BIDS tree to what is no scan, and loops")
    tree, secret = tmp_path / "tree", tmp_path / "secret"
    secret.write_text("root:x:0:0")
    write_nifti(tmp_path / "store" / "key.nii", volume.voxels[0], volume.affine)
    for name, target in (("01", tmp_path / "store" / "key.nii"), ("02", secret), ("03", tmp_path / "none")):
        anat = tree / f"sub-{name}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-{name}_T1w.nii").symlink_to(target)
    loop = tree / "sub-04" / "anat"
    loop.mkdir(parents=True)
    (loop / "sub-04_T1w.nii").symlink_to(loop / "sub-04_T1w.nii")
    (tree / "sub-05").symlink_to(tree)
    corpus = prepare([f"bids={tree}"], tmp_path / "corpus", RECIPE, workers=1)
    assert list(corpus.scans["subject"]) == ["01"]
    left = read_table(tmp_path / "corpus" / "quarantine.tsv", text=("subject", "reason"))
    assert list(left["subject"]) == ["02", "03", "04"] and "root:x" not in left.to_string()
    count.refused = 4
    count.done()


def test_strange_names_through_prepare(tmp_path):
    """Ids from file names: as they are in the tables, or refused; nothing outside of the corpus is written."""
    names = [*STRANGE_NAMES, "x" * 240, "=1+1", "@x"]
    names += [
        "a\tb",
        "a\rb",
        "Case",
        "case",
        "+5",
        "-5",
        "1e5",
        "007",
        "n a",
        "é",
        "e\u0301",
        "\u202eabc",
        "a\\b",
        "&lt;",
    ]
    names += [f"s\u00fcb {number} 'T1w'" for number in attempts(2, 70)]
    volume, folder = head((15, 18, 14), (10.0, 10.0, 10.0)), tmp_path / "scans"
    for name in names:
        write_nifti(folder / f"{name}.nii", volume.voxels[0], volume.affine)
    (folder / "loop").symlink_to(folder)
    before = {path.name for path in tmp_path.iterdir()}
    corpus = prepare([str(folder)], tmp_path / "corpus", RECIPE, workers=1)
    quarantined = read_table(tmp_path / "corpus" / "quarantine.tsv", text=("subject", "reason"))
    count = Count(32, "strange file names, through prepare to the tables")
    found, out = set(corpus.scans["subject"]), set(quarantined["subject"])
    for name in names:
        count.harmless += name in found
        count.silent += name not in found | out
    assert {path.name for path in tmp_path.iterdir()} == before | {"corpus"} and not out, quarantined.to_string()
    count.done(least_refused=0)
