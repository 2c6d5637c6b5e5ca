import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from braindino.types import Scan
from braindino.volume.io import read_case, read_labels, read_volume, write_nifti


@pytest.fixture
def file(tmp_path, volume):
    path = tmp_path / "sub-01_T1w.nii.gz"
    write_nifti(path, volume.voxels[0], volume.affine)
    return path


def test_round_trip(file, volume):
    read = read_volume(file)
    assert np.array_equal(read.voxels, volume.voxels)
    assert np.allclose(read.affine, volume.affine)
    assert read.contrasts == ("T1w",)
    assert read.spacing_mm == (4.0, 4.0, 4.0)
    assert any("sform" in line for line in read.history)


def test_writing_is_byte_reproducible_and_names_no_time(file, volume):
    before = file.read_bytes()
    write_nifti(file, volume.voxels[0], volume.affine)
    assert file.read_bytes() == before
    assert before[4:8] == b"\0\0\0\0"


def test_every_truncation_is_refused(file):
    data = file.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(data), 40):
        file.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"truncated|damaged|NIfTI header"):
            read_volume(file)


def test_no_flipped_bit_goes_unseen(file, volume):
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(1)
    seen = 0
    for position in rng.integers(10, len(data), 60):  # the first ten bytes are the gzip header
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(damaged))
        try:
            assert np.array_equal(read_volume(file).voxels, volume.voxels)  # harmless
        except ValueError:
            seen += 1
    assert seen >= 50


def _header(path, **fields):
    image = nib.Nifti1Image(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    for name, value in {"vox_offset": 352, **fields}.items():
        image.header[name] = value
    path.write_bytes(
        gzip.compress(bytes(image.header.binaryblock) + b"\0" * 4 + image.get_fdata().astype("<i2").tobytes("F"))
    )
    return path


@pytest.mark.parametrize(
    "dim",
    [
        (3, 32767, 32767, 32767, 1, 1, 1, 1),
        (3, 0, 5, 6, 1, 1, 1, 1),
        (3, -4, 5, 6, 1, 1, 1, 1),
        (2, 4, 5, 1, 1, 1, 1, 1),
    ],
)
def test_hostile_sizes_are_refused_before_anything_is_allocated(tmp_path, dim):
    with pytest.raises(ValueError, match=r"size|header"):
        read_volume(_header(tmp_path / "x.nii.gz", dim=dim))


def test_both_orientation_codes_zero_is_refused_unless_assumed(tmp_path):
    path = _header(tmp_path / "x.nii.gz", sform_code=0, qform_code=0)
    with pytest.raises(ValueError, match="--assume-orientation"):
        read_volume(path)
    ras, las = (read_volume(path, assume_orientation=codes) for codes in ("RAS", "LAS"))
    assert np.array_equal(ras.voxels[0], las.voxels[0][::-1])
    with pytest.raises(ValueError, match="three axis codes"):
        read_volume(path, assume_orientation="XYZ")


def test_scl_slope_zero_and_nan_mean_no_scaling(tmp_path):
    expected = np.arange(120).reshape(4, 5, 6)
    for slope in (0.0, np.nan, np.inf):
        path = _header(tmp_path / "x.nii.gz", scl_slope=slope, scl_inter=3.0, sform_code=1)
        assert np.array_equal(read_volume(path).voxels[0], expected)
    path = _header(tmp_path / "x.nii.gz", scl_slope=2.0, scl_inter=1.0, sform_code=1)
    assert np.array_equal(read_volume(path).voxels[0], 2 * expected + 1)


def test_voxels_cannot_begin_inside_the_header(tmp_path):
    with pytest.raises(ValueError, match="inside the header"):
        read_volume(_header(tmp_path / "x.nii.gz", vox_offset=0))


def test_big_endian(tmp_path):
    image = nib.Nifti1Image(np.arange(120, dtype=">i2").reshape(4, 5, 6), np.eye(4), nib.Nifti1Header(endianness=">"))
    image.set_sform(np.eye(4), 1)
    nib.save(image, tmp_path / "x.nii")
    assert np.array_equal(read_volume(tmp_path / "x.nii").voxels[0], np.arange(120).reshape(4, 5, 6))


def test_nifti2(tmp_path):
    nib.save(nib.Nifti2Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4)), tmp_path / "x.nii.gz")
    assert read_volume(tmp_path / "x.nii.gz").voxels.max() == 119


def test_four_dimensions_need_a_choice(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(ValueError, match="3 volumes"):
        read_volume(tmp_path / "x.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "x.nii.gz", volume=2).voxels[0], array[..., 2])
    with pytest.raises(ValueError, match="no volume 3"):
        read_volume(tmp_path / "x.nii.gz", volume=3)


def test_few_nans_become_zero_and_are_told_many_are_refused(tmp_path, volume):
    array = volume.voxels[0].copy()
    array[20, 20, :10] = np.nan
    write_nifti(tmp_path / "x.nii.gz", array, volume.affine)
    read = read_volume(tmp_path / "x.nii.gz")
    assert np.isfinite(read.voxels).all() and any("10 NaN" in line for line in read.history)
    array[:10] = np.inf
    write_nifti(tmp_path / "x.nii.gz", array, volume.affine)
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_volume(tmp_path / "x.nii.gz")


def test_constant_missing_folder_and_foreign_files_are_refused(tmp_path, volume):
    write_nifti(tmp_path / "flat.nii.gz", np.ones((4, 5, 6), np.float32), np.eye(4))
    (tmp_path / "notes.nii").write_text("not an image")
    (tmp_path / "x.png").write_bytes(b"x")
    for path, message in [
        ("flat.nii.gz", "every voxel"),
        ("none.nii", "no such"),
        ("notes.nii", "NIfTI header"),
        ("x.png", "expected a .nii"),
        (".", "folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_volume(tmp_path / path)


def test_a_case_joins_contrasts_mask_and_labels(tmp_path, file, volume):
    write_nifti(tmp_path / "mask.nii.gz", volume.brain_mask, volume.affine)
    write_nifti(tmp_path / "flair.nii.gz", volume.voxels[0] * 2, volume.affine)
    scans = [
        Scan("c", "s", "T1w", file, brain_mask=tmp_path / "mask.nii.gz", label_map=tmp_path / "mask.nii.gz"),
        Scan("c", "s", "FLAIR", tmp_path / "flair.nii.gz"),
    ]
    case = read_case(scans)
    assert case.contrasts == ("T1w", "FLAIR")
    assert np.array_equal(case.voxels[1], 2 * case.voxels[0])
    assert np.array_equal(case.brain_mask, volume.brain_mask) and case.label_map.sum() == volume.brain_mask.sum()


def test_another_grid_is_an_error(tmp_path, file, volume):
    shifted = volume.affine.copy()
    shifted[0, 3] += 4
    write_nifti(tmp_path / "mask.nii.gz", volume.brain_mask, shifted)
    with pytest.raises(ValueError, match="grid"):
        read_labels(tmp_path / "mask.nii.gz", read_volume(file))
    write_nifti(tmp_path / "other.nii.gz", volume.voxels[0], shifted)
    with pytest.raises(ValueError, match="different grids"):
        read_case([Scan("c", "s", "T1w", file), Scan("c", "s", "T2w", tmp_path / "other.nii.gz")])


def test_labels_must_be_whole_numbers(file):
    with pytest.raises(ValueError, match="whole numbers"):
        read_labels(file, read_volume(file))
    assert replace(read_volume(file)).label_map is None


def test_sform_and_qform_that_differ_are_told(tmp_path, volume):
    image = nib.Nifti1Image(volume.voxels[0], volume.affine)
    image.set_sform(volume.affine, 1)
    for shift, warned in ((0.5, False), (3.0, True)):
        moved = volume.affine.copy()
        moved[1, 3] += shift
        image.set_qform(moved, 1)
        nib.save(image, tmp_path / "x.nii.gz")
        read = read_volume(tmp_path / "x.nii.gz")
        assert any("differ by 3.0 mm" in line for line in read.history) is warned
        assert np.allclose(read.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("ends", [(".hdr", ".img"), (".hdr", ".img.gz"), (".hdr.gz", ".img.gz")])
def test_nifti_pairs(tmp_path, volume, kind, ends):
    nib.save(kind(volume.voxels[0], volume.affine), tmp_path / "sub-01_T1w.img")
    for plain, end in zip((".hdr", ".img"), ends, strict=True):
        if end.endswith(".gz"):
            path = tmp_path / f"sub-01_T1w{plain}"
            (tmp_path / f"sub-01_T1w{end}").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    for end in ends:
        read = read_volume(tmp_path / f"sub-01_T1w{end}")
        assert np.array_equal(read.voxels, volume.voxels) and read.contrasts == ("T1w",)
        assert np.allclose(read.affine, volume.affine)


@pytest.mark.parametrize("order", "<>")
def test_analyze_pairs_have_no_orientation(tmp_path, order):
    """OASIS-1 ships big-endian Analyze pairs, with a trailing axis of length 1."""
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(np.int16)
    image = nib.AnalyzeImage(np.arange(120, dtype=np.int16).reshape(4, 5, 6, 1), None, header)
    image.header.set_zooms((2, 3, 4, 1))
    nib.save(image, tmp_path / "x.img")
    with pytest.raises(ValueError, match=r"Analyze.*--assume-orientation"):
        read_volume(tmp_path / "x.hdr")
    read = read_volume(tmp_path / "x.img", assume_orientation="LAS")
    assert np.array_equal(read.voxels[0], np.arange(120).reshape(4, 5, 6)[::-1])
    assert read.spacing_mm == (2.0, 3.0, 4.0) and any("Analyze" in line for line in read.history)
    (tmp_path / "x.hdr").unlink()
    with pytest.raises(ValueError, match=r"\.hdr file of the pair .* missing"):
        read_volume(tmp_path / "x.img")


def test_lengths_in_metres_and_micrometres(tmp_path):
    for unit, factor in (("meter", 1e3), ("micron", 1e-3), ("mm", 1.0), (None, 1.0)):
        image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.diag([1 / factor] * 3 + [1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "x.nii")
        assert np.allclose(read_volume(tmp_path / "x.nii").spacing_mm, 1.0)


def test_an_overflowing_slope_is_counted_as_infinite(tmp_path):
    path = _header(tmp_path / "x.nii.gz", scl_slope=3e38, scl_inter=0.0, sform_code=1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_volume(path)


def test_a_choice_of_volume_reaches_read_case_and_is_told(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "x.nii.gz")
    case = read_case([Scan("c", "s", "T1w", tmp_path / "x.nii.gz", volume="1")])
    assert np.array_equal(case.voxels[0], array[..., 1]) and "volume 1 of 3 taken" in case.history
    with pytest.raises(ValueError, match="must be the number"):
        read_volume(tmp_path / "x.nii.gz", volume="first")


def test_a_repaired_header_is_told(tmp_path, capsys):
    path = _header(tmp_path / "x.nii.gz", sform_code=1, pixdim=(1, -2, 1, 1, 1, 1, 1, 1))
    told = read_volume(path).history
    assert any("header repaired: pixdim[1,2,3] should be positive" in line for line in told)
    assert not capsys.readouterr().err
