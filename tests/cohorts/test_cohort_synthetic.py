"""The cohort on disk: resumable, reproducible, readable as BIDS; and clear errors for what is not BIDS."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from braindino.cohorts import bids, synthetic
from braindino.pipeline.synthesize import synthesize
from braindino.record import read_record, sha256
from braindino.synthesis.config import SynthesisConfig
from braindino.volume.io import read_case

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
        {"workers": -1},
    ],
)
def test_bad_configs(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        SynthesisConfig(**wrong)


def test_missing_label_maps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no label maps"):
        synthesize(tmp_path / "out", SynthesisConfig(anatomy=tmp_path))
