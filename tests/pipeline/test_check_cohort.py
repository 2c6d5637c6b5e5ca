"""check COHORT=PATH: counts, what is missing, what conflicts, origin and terms; the exit code tells broken input."""

import numpy as np
import pytest

from braindino import catalog
from braindino.cli import main
from braindino.pipeline.check import check
from braindino.volume.io import write_nifti
from trees import sheet, touch


def image(path, array=None):
    values = np.random.default_rng(0).integers(1, 99, (4, 4, 4)).astype(np.int16) if array is None else array
    write_nifti(path, values, np.eye(4))


def brats(root, name, mark, values):
    for contrast in ("t1", "t1ce", "t2", "flair") if mark == "_" else ("t1n", "t1c", "t2w", "t2f"):
        image(root / name / f"{name}{mark}{contrast}.nii.gz")
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, : len(values)] = values
    image(root / name / f"{name}{mark}seg.nii.gz", labels)


def test_a_good_cohort_with_published_defects(tmp_path, capsys):
    image(tmp_path / "IXI002-Guys-0828-T1.nii.gz")
    image(tmp_path / "IXI012-HH-1211-T1.nii.gz")
    sheet(tmp_path / "IXI.csv", ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"], [[2, 2, 35.8], [7, 1, 20]])
    main(["check", f"ixi={tmp_path}"])  # exit 0: what is missing is told, the input is not broken
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "ixi: 2 subjects, 2 sessions, 2 T1w",
        "known: age of 1, sex of 1",
        "sites: Guys 1, HH 1",
        "note: no row in IXI.xls: 1 (IXI012)",
        "note: rows of IXI.xls without a scan: 1 (IXI007)",
        f"source: {catalog.load('cohorts', 'ixi').SOURCE}",
        "terms: CC BY-SA 3.0.",
    ]


def test_an_unreadable_scan_and_a_folder_that_does_not_fit(tmp_path, capsys):
    touch(tmp_path, "IXI002-Guys-0828-T1.nii.gz")
    with pytest.raises(SystemExit, match="IXI002 T1w: "):
        main(["check", f"ixi={tmp_path}"])
    with pytest.raises(SystemExit, match=r"expected folders like BraTS2021_00000\nsource: BraTS 2021.*\nterms: CC BY"):
        main(["check", f"brats2021={tmp_path}"])
    assert check(f"ixy={tmp_path}") == ["unknown cohort 'ixy'; did you mean 'ixi'?"]


@pytest.mark.parametrize(
    ("cohort", "name", "mark", "good", "bad"),
    [
        ("brats2021", "BraTS2021_00000", "_", [1, 2, 4], [1, 2, 3]),
        ("brats2023_gli", "BraTS-GLI-00000-000", "-", [1, 2, 3], [1, 2, 3, 4]),
        ("brats2023_mets", "BraTS-MET-00002-000", "-", [3], [4]),
        ("brats2023_men", "BraTS-MEN-00004-000", "-", [1, 2, 3], [5]),
        ("brats2024_goat", "BraTS-GoAT-00000", "-", [1, 2, 3], [1, 2, 4]),
    ],
)
def test_label_values_of_another_release(tmp_path, cohort, name, mark, good, bad):
    brats(tmp_path, name, mark, good)
    assert check(f"{cohort}={tmp_path}") == []
    brats(tmp_path, name, mark, bad)
    problems = check(f"{cohort}={tmp_path}")
    strange = sorted(set(bad) - set(good))
    assert len(problems) == 4 and all(f"label values {strange} have no meaning in brats20" in line for line in problems)


def test_every_source_of_a_file_is_checked(tmp_path, capsys):
    image(tmp_path / "IXI" / "IXI002-Guys-0828-T1.nii.gz")
    (tmp_path / "s.toml").write_text('sources = ["ixi=IXI", "abide=IXI"]\n')
    problems = check(str(tmp_path / "s.toml"))
    assert "ixi: 1 subjects, 1 sessions, 1 T1w" in capsys.readouterr().out
    assert problems[0].startswith(f"abide={tmp_path}/IXI: {tmp_path}/IXI holds nothing of this cohort")
    (tmp_path / "s.toml").write_text("sources = [")
    assert "is not valid TOML" in check(str(tmp_path / "s.toml"))[0]
