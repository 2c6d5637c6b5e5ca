import pytest

from braindino.cohorts import folder
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
