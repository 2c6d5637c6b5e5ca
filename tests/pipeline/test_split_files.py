"""Splits frozen in a file: the same split back, nnU-Net's form of it, and every file that does not fit refused."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from braindino import catalog
from braindino.corpus.audit import LeakageError
from braindino.pipeline.split import nnunet_splits, read_split, write_split
from braindino.record import read_table, write_table
from braindino.tasks import divided
from people import cases, question


@pytest.mark.parametrize("protocol", ["three_way", "paper", "site:b"])
def test_a_split_comes_back_from_its_file(tmp_path, protocol):
    task = divided(question("diagnosis", seed=4, family=3), protocol, 4)
    write_split(task, tmp_path, folds=3, seed=1)
    assert not (tmp_path / "splits_final.json").exists()
    for path in (tmp_path, tmp_path / "split.tsv"):
        found = read_split(path, question("diagnosis", seed=0, order=-1, family=3))
        assert (found.split, found.protocol) == (task.split, protocol)
        assert {case.name for case in found.cases} == {case.name for case in task.cases}
    table = read_table(tmp_path / "split.tsv", text=("subject", "split", "stratum", "fold", "protocol"))
    assert list(table["subject"]) == sorted(task.split) and set(table["protocol"]) == {protocol}
    assert set(table["stratum"]) == {"dementia", "healthy"}
    folded = table[table["split"] != "test"]
    assert set(folded["fold"]) == {"0", "1", "2"} and set(table[table["split"] == "test"]["fold"]) <= {""}
    family = {case.subject: case.participant["family"] for case in task.cases}
    assert folded.groupby(folded["subject"].map(family))["fold"].nunique().max() == 1
    assert set(folded.groupby("fold")["stratum"].nunique()) == {2}


def test_the_same_file_from_the_same_people(tmp_path):
    write_split(question("survival"), tmp_path / "a", folds=5)
    write_split(question("survival", order=-1), tmp_path / "b", folds=5)
    assert (tmp_path / "a" / "split.tsv").read_bytes() == (tmp_path / "b" / "split.tsv").read_bytes()
    with pytest.raises(ValueError, match="folds is 1; expected 0"):
        write_split(question("survival"), tmp_path / "c", folds=1)


def test_splits_of_nnunet_keep_time_points_of_a_patient_together(tmp_path):
    """nnU-Net draws its folds over cases; here two visits of a patient are never on two sides."""
    twice = tuple(replace(case, session=session) for case in cases(20) for session in ("000", "001"))
    task = catalog.load("tasks", "tumour_segmentation").build("c", twice, 0)
    write_split(task, tmp_path)
    (single,) = json.loads((tmp_path / "splits_final.json").read_text())
    assert single == {
        "train": [case.name for case in task.cases_of("train")],
        "val": [case.name for case in task.cases_of("validation")],
    }
    write_split(task, tmp_path, folds=5)
    folds = json.loads((tmp_path / "splits_final.json").read_text())
    inside = sorted(single["train"] + single["val"])
    assert len(folds) == 5 and sorted(name for fold in folds for name in fold["val"]) == inside
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == inside
        patients = [{name.partition("_")[0] for name in fold[side]} for side in ("train", "val")]
        assert not patients[0] & patients[1] and patients[1]
    assert nnunet_splits(divided(task, "paper", 0), {})[0]["val"]


def test_files_that_do_not_fit_are_refused(tmp_path):
    task = question("diagnosis", family=2)
    write_split(task, tmp_path)
    path, columns = tmp_path / "split.tsv", ("subject", "split", "stratum", "fold", "protocol")
    table = read_table(path, text=columns)

    def changed(change):
        write_table(tmp_path / "other.tsv", change(table))
        return tmp_path / "other.tsv"

    def cell(row, column, value):
        return lambda copy: copy.assign(**{column: [value if n == row else v for n, v in enumerate(copy[column])]})

    assert read_split(changed(lambda copy: copy[::-1]), task).split == task.split
    with pytest.raises(ValueError, match=r"lacks 1 subjects that the task has \(s000\)"):
        read_split(changed(lambda copy: copy[1:]), task)
    with pytest.raises(ValueError, match=r"names 1 subjects that the task lacks \(s-999\)"):
        read_split(changed(cell(0, "subject", "s-999")), task)
    other = "test" if table["split"][0] != "test" else "train"
    with pytest.raises(LeakageError, match=r"tears the family f0 apart: s000 in .* and s001 in"):
        read_split(changed(cell(0, "split", other)), task)
    with pytest.raises(LeakageError, match=f"has s000 in {table['split'][0]} and in {other}; a subject is in one"):
        read_split(changed(lambda copy: pd.concat([copy, copy[:1].assign(split=other)])), task)
    with pytest.raises(ValueError, match="the split of s000 is 'dev', expected one of train, validation, test"):
        read_split(changed(cell(0, "split", "dev")), task)
    with pytest.raises(ValueError, match="has the protocols paper, three_way; expected one"):
        read_split(changed(cell(0, "protocol", "paper")), task)
    with pytest.raises(ValueError, match="lacks the column 'protocol'"):
        read_split(changed(lambda copy: copy[["subject", "split"]]), task)
    with pytest.raises(ValueError, match="no table"):
        read_split(tmp_path / "none.tsv", task)
    path.write_text(path.read_text().replace("healthy", "healthx"))
    with pytest.raises(ValueError, match="differs from its record"):
        read_split(tmp_path, task)
