from pathlib import Path

import pytest

from braindino.cohorts import bids, synthetic
from braindino.layouts.bids import entities
from trees import told_of, touch


def test_raw_bids_with_sessions(tmp_path):
    touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_ce-gd_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_FLAIR.nii.gz",
        "sub-02/anat/sub-02_T2w.nii",
        "sub-02/anat/sub-02_desc-brain_mask.nii.gz",
    )
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsite\nsub-01\t40\tX\nsub-02\tn/a\t\n")
    first, second, third = bids.cases(tmp_path)
    assert (first.name, second.name, third.name) == ("01_a", "01_b", "02")
    assert [scan.contrast for scan in first.scans] == ["T1w", "T1ce"]
    assert first.site == "X" and first.participant == {"age": 40, "site": "X"}
    assert third.scans[0].brain_mask is not None and third.participant == {} and third.site == ""
    assert first.scans[0].cohort == f"bids:{tmp_path.name}"


def test_what_is_not_bids(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        bids.cases(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no anatomical image"):
        bids.cases(tmp_path)
    with pytest.raises(ValueError, match=r"record\.json"):
        synthetic.cases(tmp_path)
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    assert bids.cases(tmp_path)[0].participant == {}
    (tmp_path / "participants.tsv").write_text("subject\tage\n01\t40\n")
    with pytest.raises(ValueError, match="no column participant_id"):
        bids.cases(tmp_path)


def test_what_is_left_out_is_told_and_stops_nothing(tmp_path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_run-2_T1w.nii.gz",
        "sub-02/anat/sub-02_run-10_T1w.nii.gz",
        "sub-02/anat/sub-02_run-9_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w_defaced.nii.gz",
        "sub-03/anat/sub-04_T1w.nii.gz",
        "sub-03/anat/sub-03_T2w.nii.gz",
    )
    rows = ["sub-01\t40\tF", "sub-01\t41\tF", "sub-01\tn/a\tF", "sub-02\t20\tn/a", "sub-02\t20\tmale", "sub-09\t1\tM"]
    (tmp_path / "participants.tsv").write_text("\n".join(["participant_id\tAge\tGender", *rows]) + "\n")
    cases, told = told_of(bids.cases, tmp_path)
    assert {name: [scan.path.name for scan in case.scans] for name, case in cases.items()} == {
        "01": ["sub-01_T1w.nii.gz"],
        "02": ["sub-02_run-9_T1w.nii.gz"],
        "03": ["sub-03_T2w.nii.gz"],
    }
    assert cases["01"].participant == {"sex": "F"} and cases["02"].participant == {"age": 20, "sex": "M"}
    assert told == {
        "left out, another T1w of the session was taken": ["sub-01_run-2_T1w.nii.gz", "sub-02_run-10_T1w.nii.gz"],
        "left out, its name is not a BIDS name": ["sub-02_T1w_defaced.nii.gz"],
        "left out, its name contradicts its folder": ["sub-03/anat/sub-04_T1w.nii.gz"],
        f"rows of {tmp_path.name}/participants.tsv for one subject, merged": ["sub-01", "sub-01", "sub-02"],
        "participants.tsv: Age differs between rows of one subject and is left empty": ["sub-01"],
        "no row in participants.tsv": ["sub-03"],
        "rows of participants.tsv without a scan": ["sub-09"],
    }


def test_sessions_tsv_overrides_the_participants_row(tmp_path):
    touch(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-1\t40\tF\n")
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-b\t43.5\n")
    first, second = bids.cases(tmp_path)
    assert first.participant == {"age": 40, "sex": "F"} and second.participant == {"age": 43.5, "sex": "F"}


def test_entities():
    assert entities(Path("sub-1_ce-gd_T1w.nii.gz")) == ({"sub": "1", "ce": "gd"}, "T1w")
    for name in ("sub-1_gd_T1w.nii.gz", "sub-1_sub-2_T1w.nii.gz"):
        with pytest.raises(ValueError, match="not a BIDS entity"):
            entities(Path(name))
