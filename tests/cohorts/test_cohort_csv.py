import pytest

from braindino.cohorts import csv
from trees import sheet, told_of, touch

HEADER = ["path", "subject", "contrast", "session", "site", "label_map", "brain_mask", "age", "family", "survival_days"]


def test_a_manifest(tmp_path):
    touch(tmp_path, *(f"img/{name}.nii.gz" for name in ("a", "b", "c", "d", "seg", "mask")))
    rows = [
        ["img/b.nii.gz", "1", "FLAIR", "x", "S", "", "", "40.5", "007", "n/a"],
        ["img/a.nii.gz", "1", "T1w", "x", "S", "img/seg.nii.gz", "img/mask.nii.gz", "40.5", "007", "12"],
        [str(tmp_path / "img/c.nii.gz"), "1", "T1w", "y", "S", "", "", "41.5", "007", "5"],
        ["img/d.nii.gz", "1", "T1w", "y", "T", "", "", "42", "007", "5"],
        ["img/none.nii.gz", "2", "T1w", "", "", "", "", "", "", ""],
        ["img/d.nii.gz", "3", "my contrast", "", "", "img/none.nii.gz", "", "", "", ""],
    ]
    sheet(tmp_path / "people.csv", HEADER, rows)
    cases, told = told_of(csv.cases, tmp_path / "people.csv")
    first, second = cases["1_x"], cases["1_y"]
    assert [scan.contrast for scan in first.scans] == ["T1w", "FLAIR"] and len(cases) == 2
    assert first.scans[0].cohort == "csv:people" and first.site == "S"
    assert first.scans[0].label_map.name == "seg.nii.gz" and first.scans[0].brain_mask.name == "mask.nii.gz"
    assert first.scans[1].label_map is None
    assert first.participant == {"age": 40.5, "family": "007", "survival_days": 12}
    assert second.participant == {"family": "007", "survival_days": 5} and second.site == ""
    assert second.scans[0].path == tmp_path / "img/c.nii.gz"
    assert told == {
        "left out, the image or its mask or label map does not exist": ["img/d.nii.gz", "img/none.nii.gz"],
        "age differs between rows of one session and is left empty": ["1_y"],
        "site differs between rows of one session and is left empty": ["1_y"],
        "left out, a second T1w of 1_y": ["img/d.nii.gz"],
    }
    sheet(tmp_path / "people.csv", HEADER, rows[::-1])
    assert told_of(csv.cases, tmp_path / "people.csv")[0] == cases


def test_a_manifest_that_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="is not a file; expected a table with the columns path, subject, contrast"):
        csv.cases(tmp_path)
    sheet(tmp_path / "m.csv", ["path", "subject"], [["a.nii", "1"]])
    with pytest.raises(ValueError, match=r"m\.csv, line 2: no contrast"):
        csv.cases(tmp_path / "m.csv")
    sheet(tmp_path / "m.csv", ["path", "subject", "contrast"], [["a.nii", "1", "T1w"]])
    with pytest.raises(ValueError, match="names no image that exists; paths are relative to"):
        csv.cases(tmp_path / "m.csv", lambda line: None)
