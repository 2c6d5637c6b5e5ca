"""nnU-Net's raw layout in miniature: channels, regions and values, both versions of dataset.json, defects."""

import json

import numpy as np
import pytest

from braindino import catalog
from braindino.cohorts import nnunet
from braindino.heads import one_label_map
from braindino.layouts.nnunet import read_description
from braindino.pipeline.check import check
from braindino.pipeline.encode import load_encoder
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.volume.io import read_case, read_labels, read_volume, write_nifti
from trees import told_of, touch

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
VALUES = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
CHANNELS = {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"}


def describe(root, labels=REGIONS, channels=CHANNELS, **more):
    root.mkdir(exist_ok=True)
    told = {"channel_names": channels, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz", **more}
    (root / "dataset.json").write_text(json.dumps(told))
    return root


def put(root, *names, part="Tr", labels=True):
    for name in names:
        touch(root, *(f"images{part}/{name}_{n:04d}.nii.gz" for n in range(4)))
        if labels:
            touch(root, f"labels{part}/{name}.nii.gz")


def test_cases_channels_and_the_task(tmp_path):
    root = describe(tmp_path / "Dataset137_BraTS2021")
    put(root, *(f"BraTS2021_{n:05d}" for n in range(9)))
    put(root, "BraTS2021_01000", part="Ts", labels=False)
    cases, told = told_of(nnunet.cases, root)
    case = cases["BraTS2021_00003"]
    assert [scan.contrast for scan in case.scans] == ["T1w", "T1ce", "T2w", "FLAIR"]
    assert [scan.path.name[-11:-7] for scan in case.scans] == ["0000", "0001", "0002", "0003"]
    assert case.scans[0].label_map == root / "labelsTr" / "BraTS2021_00003.nii.gz"
    assert case.scans[0].cohort == "nnunet:Dataset137_BraTS2021"
    assert case.participant == {
        "group": "glioma",
        "label_scheme": "nnunet_brats",
        "also_in": "brats2021/BraTS2021_00003",
    }
    assert told == {"no label map": ["BraTS2021_01000"]} and len(cases) == 10
    task = catalog.load("tasks", "tumour_segmentation").build("c", tuple(cases.values()), 0)
    assert task.regions == {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)} and len(task.cases) == 9


def test_time_points_of_brats_are_sessions_and_other_names_are_subjects(tmp_path):
    root = describe(tmp_path / "d")
    put(root, "BraTS-MEN-00004-000", "BraTS-MEN-00004-001", "patient_7")
    cases, _ = told_of(nnunet.cases, root)
    assert {(case.subject, case.session) for case in cases.values()} == {
        ("BraTS-MEN-00004", "000"),
        ("BraTS-MEN-00004", "001"),
        ("patient_7", ""),
    }


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (REGIONS, "nnunet_brats"),
        (VALUES, "nnunet_brats"),
        ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}, "nnunet_brats"),
        ({"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": 3}, "brats2023"),
        ({"background": 0, "NCR": 1, "SNFH": 2, "ET": 3}, "brats2023"),
        ({"background": 0, "necrosis": 1, "ED": 2, "ET": 4, "ignore": 5}, "brats2021"),
        ({"background": 0, "stroke": 1}, "lesion"),
        ({"background": 0, "lesion": 2}, ""),
        ({"background": 0, "hippocampus": 1}, ""),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, ""),
        ({"background": 0, "whole tumor": [1, 2], "tumor core": [2]}, ""),
    ],
)
def test_the_scheme_follows_from_what_the_labels_are_called(tmp_path, labels, scheme):
    root = describe(tmp_path / "d", labels)
    assert read_description(root).scheme == scheme
    put(root, "a", "b")
    cases, told = told_of(nnunet.cases, root)
    for case in cases.values():
        assert (case.scans[0].label_map is None) == (scheme == "")
        assert case.participant.get("label_scheme", "") == scheme
    assert any("fit no label scheme" in kind for kind in told) == (scheme == "")


@pytest.mark.parametrize(
    ("channels", "contrasts"),
    [
        ({"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, ("FLAIR", "T1w", "T1ce", "T2w")),
        ({"1": "T1-Gd", "0": "T1_native", "10": "T2*"}, ("T1w", "T1ce", "T2starw")),
        ({"0": "T2-FLAIR"}, ("FLAIR",)),
    ],
)
def test_channel_names_in_many_spellings_and_the_older_key(tmp_path, channels, contrasts):
    root = tmp_path / "d"
    root.mkdir()
    (root / "dataset.json").write_text(json.dumps({"modality": channels, "labels": VALUES}))
    assert read_description(root).contrasts == contrasts


def test_defects_are_told(tmp_path):
    root = describe(tmp_path / "d")
    put(root, "a", "b")
    put(root, "b", part="Ts")
    (root / "imagesTr" / "a_0002.nii.gz").unlink()
    touch(root, "imagesTr/a_0007.nii.gz", "imagesTr/readme.txt", "imagesTr/c.nii.gz")
    cases, told = told_of(nnunet.cases, root)
    assert [scan.contrast for scan in cases["a"].scans] == ["T1w", "T1ce", "FLAIR"] and set(cases) == {"a", "b"}
    assert told == {
        "no T2w": ["a"],
        "left out, no image of a channel": ["imagesTr/a_0007.nii.gz", "imagesTr/c.nii.gz", "imagesTr/readme.txt"],
        "left out, a case of this name was read before": ["b"],
    }


def test_files_that_the_description_lists(tmp_path):
    listed = {"x1": {"images": ["raw/x1/t1.nii.gz", "raw/x1/t1c.nii.gz"], "label": "raw/x1/seg.nii.gz"}}
    root = describe(tmp_path / "d", VALUES, {"0": "T1", "1": "T1c"}, dataset=listed)
    touch(root, "raw/x1/t1.nii.gz", "raw/x1/seg.nii.gz")
    cases, told = told_of(nnunet.cases, root)
    assert [scan.path for scan in cases["x1"].scans] == [root / "raw/x1/t1.nii.gz"] and told == {"no T1ce": ["x1"]}
    assert cases["x1"].scans[0].label_map == root / "raw/x1/seg.nii.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": {"0": "CT"}}, "channel 'CT' is no contrast of brain MRI"),
        ({"channels": {"0": "T1", "1": "t1w"}}, "name one contrast twice"),
        ({"channels": {"zero": "T1"}}, "is no description of nnU-Net"),
        ({"channels": None}, "is no description of nnU-Net"),
        ({"file_ending": ".mha"}, "file_ending is '.mha', expected .nii.gz or .nii"),
        ({"labels": {"tumour": "one"}}, "is no description of nnU-Net"),
        ({}, "holds nothing of this cohort; expected imagesTr/CASE_0000.nii.gz"),
        ({"dataset": {"a": {"image": []}}}, "is no description of nnU-Net"),
    ],
)
def test_bad_descriptions(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        nnunet.cases(describe(tmp_path / "d", **change), lambda line: None)
    (tmp_path / "d" / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="is no description"):
        nnunet.cases(tmp_path / "d", lambda line: None)


def test_a_dataset_with_voxels_from_check_to_label_maps(tmp_path, cohort, weights, capsys):
    """The synthetic gliomas in nnU-Net's order of labels (1 oedema, 2 core): checked, learned on, segmented."""
    root = describe(tmp_path / "Dataset900_Made")
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for case in catalog.load("cohorts", "synthetic").cases(cohort):
        if case.scans[0].label_map is None:
            continue
        volume = read_case(case.scans)
        for number, contrast in enumerate(("T1w", "T1ce", "T2w", "FLAIR")):
            stripped = volume.voxels[volume.contrasts.index(contrast)] * volume.brain_mask  # as BraTS is
            write_nifti(root / "imagesTr" / f"{case.name}_{number:04d}.nii.gz", stripped, volume.affine)
        labels = np.array([0, 2, 1, 3], np.uint8)[volume.label_map]
        write_nifti(root / "labelsTr" / f"{case.name}.nii.gz", labels, volume.affine)
    assert check(f"nnunet={root}") == [] and "9 subjects" in capsys.readouterr().out
    task = load_task("tumour_segmentation", [f"nnunet={root}"])
    encoder = load_encoder("braindino", weights)
    table = predict(task, encoder, fit(task, encoder, "decoder"), out=tmp_path / "p").table
    assert (table["status"] == "ok").all() and table["output_WT_dice"].mean() > 0.3
    case = task.cases_of("test")[0]
    found = read_labels(tmp_path / "p" / "label_maps" / f"{case.name}_dseg.nii.gz", read_volume(case.scans[0].path))
    assert (found > 0).any()
    values = np.arange(4, dtype=np.int16).reshape(4, 1, 1)
    regions = {name: np.isin(values, labels) for name, labels in task.regions.items()}
    assert np.array_equal(one_label_map(regions, task), values)  # written in the order of this dataset, not of BraTS
