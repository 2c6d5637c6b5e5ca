import pytest

from braindino.cohorts import folder
from braindino.volume.io import read_case
from dicom_series import SHAPE, series
from trees import touch


def test_images_masks_and_what_is_neither(tmp_path):
    touch(tmp_path, "a_T1w.nii.gz", "a_T1w_mask.nii.gz", "deep/b.nii", "c_mask.nii.gz", "d.nii.txt", ".hidden.nii")
    lines = []
    first, second = folder.cases(tmp_path, lines.append)
    assert first.scans[0].contrast == "T1w" and first.scans[0].brain_mask.name == "a_T1w_mask.nii.gz"
    assert second.subject == "deep_b" and second.scans[0].contrast == "unknown" and second.scans[0].brain_mask is None
    assert lines == ["left out, no image or a mask without its image: 2 (c_mask.nii.gz, d.nii.txt)"]
    touch(tmp_path, "deep/b.nii.gz")
    with pytest.raises(ValueError, match="have the same name; rename one"):
        folder.cases(tmp_path)
    assert folder.cases(tmp_path / "deep" / "b.nii")[0].subject == "b"


def test_dicom_series_are_cases_named_by_their_folders(tmp_path):
    touch(tmp_path, "plain/a_T1w.nii.gz", "plain/notes.txt")
    for name in ("p1_T1w", "p2_FLAIR"):
        (tmp_path / "dicom").mkdir(exist_ok=True)
        series(tmp_path / "dicom" / name)
    found = folder.cases(tmp_path)
    assert [case.subject for case in found] == ["dicom_p1_T1w", "dicom_p2_FLAIR", "plain_a_T1w"]
    assert [case.scans[0].contrast for case in found] == ["T1w", "FLAIR", "T1w"]
    alone = folder.cases(tmp_path / "dicom" / "p1_T1w")
    assert alone[0].subject == "p1_T1w" and read_case(alone[0].scans).voxels.shape[1:] == SHAPE
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="no DICOM series"):
        folder.cases(tmp_path / "nothing")
