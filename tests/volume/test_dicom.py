import shutil

import numpy as np
import pytest

from braindino.types import Scan
from braindino.volume import dicom
from braindino.volume.io import read_case, read_volume
from dicom_series import AXES, SHAPE, SPACING, series


def place_mm(axes, column, row, z):
    """World position (RAS) of a pixel, from the DICOM tags."""
    right, down = (np.array(a, float) for a in AXES[axes])
    lps = np.array([-20.0, -30.0, 5.0]) + right * SPACING[0] * column + down * SPACING[1] * row
    return (lps + np.cross(right, down) * SPACING[2] * z) * (-1, -1, 1)


@pytest.mark.parametrize("axes", AXES)
def test_every_pixel_lands_where_the_tags_say(tmp_path, axes):
    volume = read_volume(series(tmp_path / "scan", axes=axes))
    inverse = np.linalg.inv(volume.affine)
    for column, row, z in [(0, 0, 0), (19, 0, 0), (0, 23, 0), (0, 0, 11), (7, 15, 5)]:
        voxel = inverse @ [*place_mm(axes, column, row, z), 1]
        assert np.allclose(voxel, np.rint(voxel), atol=1e-3)
        assert volume.voxels[0][tuple(np.rint(voxel[:3]).astype(int))] == 100 + column + 3 * row + 50 * z
    assert sorted(volume.voxels.shape[1:]) == sorted(SHAPE)


def test_no_identity_in_what_is_told(tmp_path):
    folder = series(tmp_path / "Canary_Jane_canary-id")
    volume = read_volume(folder)
    assert volume.scans[0].path == folder and any("3_t1_mprage" in line for line in volume.history)
    told = " ".join(volume.history).lower()
    assert "canary" not in told and "1950" not in told and "2020" not in told
    assert dicom.TEMPLATE == "%s_%p"


def test_several_images_need_a_choice(tmp_path):
    folder = series(tmp_path / "scan", echo=1)
    series(folder, echo=2, gain=2)
    with pytest.raises(ValueError, match=r"2 images: 3_t1_mprage_e1, 3_t1_mprage_e2; .*--volume 3_t1_mprage_e1"):
        read_volume(folder)
    first, second = (read_volume(folder, volume=f"3_t1_mprage_e{n}") for n in (1, 2))
    assert np.array_equal(second.voxels, 2 * first.voxels)
    with pytest.raises(ValueError, match="no image 'other'; it has 3_t1"):
        read_volume(folder, volume="other")
    case = read_case([Scan("c", "s", "T1w", folder, volume="3_t1_mprage_e1")])
    assert np.array_equal(case.voxels, first.voxels) and case.contrasts == ("T1w",)


def test_a_phase_image_is_taken_only_by_name(tmp_path):
    folder = series(tmp_path / "scan", kind=("ORIGINAL", "PRIMARY", "P", "ND"))
    with pytest.raises(ValueError, match=r"only 3_t1_mprage_ph, .* --volume 3_t1_mprage_ph"):
        read_volume(folder)
    assert read_volume(folder, volume="3_t1_mprage_ph").voxels.max() > 100


def test_a_derived_image_is_told(tmp_path):
    volume = read_volume(series(tmp_path / "scan", kind=("DERIVED", "PRIMARY", "M", "ND")))
    assert any("calls this image derived" in line for line in volume.history)


def test_folders_without_a_whole_series_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no DICOM series .*no DICOM file"):
        read_volume(tmp_path)
    folder = series(tmp_path / "scan")
    assert dicom.is_dicom(folder) and not dicom.is_dicom(tmp_path)
    next(folder.glob("*-5.dcm")).unlink()
    with pytest.raises(ValueError, match=r"images of the series are missing; its slices are not evenly spaced"):
        read_volume(folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="no DICOM series"):
        read_volume(folder)


def test_a_missing_program_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dcm2niix", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"braindino\[dicom\]"):
        read_volume(tmp_path)
