"""The cohort on disk: resumable, reproducible, readable as BIDS; and clear errors for what is not BIDS."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from braindino.cohorts import bids, synthetic
from braindino.layouts.bids import entities
from braindino.pipeline.synthesize import SynthesisConfig, synthesize
from braindino.record import read_record, sha256
from braindino.volume.io import read_case, write_nifti

CONFIG = SynthesisConfig(healthy=1, dementia=1, glioma=1, stroke=1, spacing_mm=4.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nilearn")
    return synthesize(tmp_path_factory.mktemp("synthetic") / "cohort", CONFIG)


def test_round_trip(cohort: Path) -> None:
    cases = {case.subject: case for case in synthetic.cases(cohort)}
    assert sorted(cases) == ["dementia001", "glioma001", "healthy001", "stroke001"]
    glioma = cases["glioma001"]
    assert tuple(scan.contrast for scan in glioma.scans) == ("T1w", "T1ce", "T2w", "FLAIR")
    assert glioma.participant["idh"] in ("wildtype", "mutant") and glioma.participant["survival_days"] > 0
    assert glioma.site == glioma.participant["site"] == glioma.scans[0].site
    volume = read_case(glioma.scans)
    assert volume.brain_mask is not None and volume.label_map is not None
    assert not np.any(volume.label_map[~volume.brain_mask])
    ml = np.prod(volume.spacing_mm) / 1000
    assert (volume.label_map > 0).sum() * ml == pytest.approx(glioma.participant["tumour_ml"], rel=1e-3)
    assert cases["healthy001"].scans[0].label_map is None and "idh" not in cases["healthy001"].participant
    assert cases["stroke001"].participant["days_since_stroke"] > 0
    assert [case.name for case in bids.cases(cohort)] == sorted(cases)


def test_the_folder_says_that_it_is_synthetic(cohort: Path) -> None:
    description = json.loads((cohort / "dataset_description.json").read_text())
    assert "synthetic" in description["Name"] and description["DatasetType"] == "derivative"
    columns = json.loads((cohort / "participants.json").read_text())
    header = (cohort / "participants.tsv").read_text().partition("\n")[0].split("\t")
    assert header == list(columns) and all("Description" in column for column in columns.values())
    assert read_record(cohort, "synthesize")["facts"]["synthetic"] is True


def test_resume_gives_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cohort, copy)
    before = {path.relative_to(copy): sha256(path) for path in copy.rglob("*") if path.is_file()}
    shutil.rmtree(copy / "sub-healthy001")
    (copy / "sub-stroke001/anat/sub-stroke001_label-lesion_dseg.nii.gz").write_bytes(b"torn")
    kept = (copy / "sub-glioma001/anat/sub-glioma001_desc-preproc_T1w.nii.gz").stat().st_mtime_ns
    synthesize(copy, CONFIG)
    after = {path.relative_to(copy): sha256(path) for path in copy.rglob("*") if path.is_file()}
    assert after == before
    assert (copy / "sub-glioma001/anat/sub-glioma001_desc-preproc_T1w.nii.gz").stat().st_mtime_ns == kept


def test_other_numbers_of_subjects_and_processes_change_nothing(cohort: Path, tmp_path: Path) -> None:
    config = SynthesisConfig(healthy=2, dementia=0, glioma=0, spacing_mm=4.0, workers=2)
    other = synthesize(tmp_path / "other", config)
    name = "sub-healthy001/anat/sub-healthy001_desc-preproc_FLAIR.nii.gz"
    assert sha256(other / name) == sha256(cohort / name)


def test_strangers_are_refused(cohort: Path) -> None:
    with pytest.raises(ValueError, match="already holds 3 subjects"):
        synthesize(cohort, SynthesisConfig(healthy=1, dementia=0, glioma=0, spacing_mm=4.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"healthy": -1},
        {"healthy": 0, "dementia": 0, "glioma": 0},
        {"glioma": 1000},
        {"spacing_mm": 0.5},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_bad_configs(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        SynthesisConfig(**wrong)


def test_missing_label_maps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no label maps"):
        synthesize(tmp_path / "out", SynthesisConfig(anatomy=tmp_path))


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, np.zeros((2, 2, 2), np.uint8), np.eye(4))


def test_raw_bids_with_sessions(tmp_path: Path) -> None:
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


def test_what_is_not_bids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        bids.cases(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no anatomical image"):
        bids.cases(tmp_path)
    with pytest.raises(ValueError, match=r"record\.json"):
        synthetic.cases(tmp_path)
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    assert bids.cases(tmp_path)[0].participant == {}
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-02\t40\n")
    with pytest.raises(ValueError, match="no row in participants"):
        bids.cases(tmp_path)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\nsub-01\t41\n")
    with pytest.raises(ValueError, match="sub-01 twice"):
        bids.cases(tmp_path)
    (tmp_path / "participants.tsv").write_text("subject\tage\n01\t40\n")
    with pytest.raises(ValueError, match="no column participant_id"):
        bids.cases(tmp_path)
    (tmp_path / "participants.tsv").unlink()
    touch(tmp_path, "sub-01/anat/sub-01_run-2_T1w.nii.gz")
    with pytest.raises(ValueError, match="two files for T1w"):
        bids.cases(tmp_path)


def test_names_that_contradict(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-03_T1w.nii.gz")
    with pytest.raises(ValueError, match="contradicts its folder"):
        bids.cases(tmp_path)
    assert entities(Path("sub-1_ce-gd_T1w.nii.gz")) == ({"sub": "1", "ce": "gd"}, "T1w")
    for name in ("sub-1_gd_T1w.nii.gz", "sub-1_sub-2_T1w.nii.gz"):
        with pytest.raises(ValueError, match="not a BIDS entity"):
            entities(Path(name))
