"""IXI, LONG579, Pixar, Cam-CAN, HCP, CoRR: ages, families, and the defects of the published tables."""

import openpyxl
import pytest

from braindino.cohorts import camcan, corr, hcp, ixi, long579, pixar
from faults import Count
from trees import sheet, told_of, touch

SITES = ("Guys", "HH", "IOP")


def ixi_rows():
    """The published sheet: 619 rows, 593 distinct ids, 590 with an age (26 doubled rows, each without an age)."""
    rows = [[n, 1 + n % 2, f"{20 + n * 0.1:.2f}", "1950-01-01"] for n in range(1, 594)]
    for n in (10, 20, 30):
        rows[n - 1][2] = ""
    return rows + [[n, 1 + n % 2, "", ""] for n in range(100, 126)]


@pytest.fixture(scope="module")
def ixi_root(tmp_path_factory):
    """581 T1 scans: 566 whose id is in the sheet (3 of them without age), 15 whose id is not."""
    root = tmp_path_factory.mktemp("ixi")
    numbers = [*range(1, 567), *range(600, 615)]
    touch(root, *(f"IXI-T1/IXI{n:03d}-{SITES[n % 3]}-{n + 700:04d}-T1.nii.gz" for n in numbers))
    touch(root, "IXI-T2/IXI001-HH-0701-T2.nii.gz", "IXI-PD/IXI001-HH-0701-PD.nii.gz", "IXI-T1/IXI001-DTI-00.nii.gz")
    return root


def test_ixi_counts(ixi_root):
    header = ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE", "DOB"]
    rows = ixi_rows()
    assert (len(rows), len({row[0] for row in rows}), sum(row[2] != "" for row in rows)) == (619, 593, 590)
    sheet(ixi_root / "IXI.csv", header, rows)
    cases, told = told_of(ixi.cases, ixi_root)
    assert len(cases) == 581 and sum("T1w" in [s.contrast for s in case.scans] for case in cases.values()) == 581
    assert sum("age" in case.participant for case in cases.values()) == 563
    assert len(told["no row in IXI.xls"]) == 15 and told["no row in IXI.xls"][0] == "IXI600"
    assert told["no age in IXI.xls"] == ["IXI010", "IXI020", "IXI030"]
    assert len(told["rows of IXI.xls for one id, merged"]) == 26
    assert told["left out, not a T1, T2 or PD image of IXI by its name"] == ["IXI001-DTI-00.nii.gz"]
    assert len(told["rows of IXI.xls without a scan"]) == 27 and len(told) == 5
    first = cases["IXI001"]
    assert [scan.contrast for scan in first.scans] == ["T1w", "T2w", "PDw"] and first.site == "HH"
    assert first.participant == {"age": 20.1, "sex": "F"}
    count = Count(13, "rows of IXI's sheet that are doubled, without age or without scan; scans without a row")
    count.refused = 26 + 3 + 27 + 15  # each of them told, and the 563 ages are right
    count.done()


def test_ixi_joins_on_the_id_and_never_on_the_row(ixi_root):
    header = ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE", "DOB"]
    results = []
    for rows in (ixi_rows(), ixi_rows()[::-1]):
        sheet(ixi_root / "IXI.csv", header, rows)
        results.append({name: case.participant for name, case in told_of(ixi.cases, ixi_root)[0].items()})
    assert results[0] == results[1]
    assert all(
        row["age"] == pytest.approx(20 + int(name.removeprefix("IXI")) * 0.1)
        for name, row in results[0].items()
        if "age" in row
    )


def test_ixi_from_excel_with_a_conflict_and_without_a_sheet(tmp_path):
    touch(tmp_path, "IXI002-Guys-0828-T1.nii.gz", "IXI002-HH-0900-T1.nii.gz")
    cases, told = told_of(ixi.cases, tmp_path)
    assert cases["IXI002"].participant == {}
    assert told["no such table, so its columns are missing"] == ["IXI.xls from brain-development.org/ixi-dataset"]
    assert told["left out, IXI002-Guys-0828-T1.nii.gz is taken for T1w of IXI002"] == ["IXI002-HH-0900-T1.nii.gz"]
    book = openpyxl.Workbook()
    for line in (["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"], [2, 2, 35.8], [2, 2, 36.8]):
        book.active.append(line)
    book.save(tmp_path / "IXI.xlsx")
    cases, told = told_of(ixi.cases, tmp_path)
    assert cases["IXI002"].participant == {"sex": "F"}
    assert told["IXI.xls: age differs between rows of one id and is left empty"] == ["IXI002"]
    assert told["no age in IXI.xls"] == ["IXI002"]


def test_long579_true_ages_from_three_sources(tmp_path):
    touch(
        tmp_path, *(f"sub-5003/ses-{n}/anat/sub-5003_ses-{n}_acq-D1_run-0{r}_T1w.nii.gz" for n in "579" for r in "12")
    )
    touch(tmp_path, "sub-5004/ses-7/anat/sub-5004_ses-7_T1w.nii.gz", "sub-5005/ses-9/anat/sub-5005_ses-9_T1w.nii.gz")
    touch(tmp_path, "sub-5006/ses-9/anat/sub-5006_ses-9_T1w.nii.gz")
    header = ["participant_id", "Sex", "dob", "age_months_ses-9", "age_ses-5"]
    rows = [
        ["sub-5003", "F", "", "n/a", "5.3"],
        ["sub-5004", "M", "2010-01-01", "", ""],
        ["sub-5005", "M", "", 118, ""],
    ]
    sheet(tmp_path / "participants.tsv", header, [*rows, ["sub-5006", "M", "", 9, ""]], "\t")
    sheet(tmp_path / "sub-5003" / "sub-5003_sessions.tsv", ["session_id", "age"], [["ses-7", 8.1]], "\t")
    scans = [["anat/b.nii.gz", "n/a"], ["anat/a.nii.gz", "2017-12-31T10:00:00"]]
    sheet(tmp_path / "sub-5004/ses-7/sub-5004_ses-7_scans.tsv", ["filename", "acq_time"], scans, "\t")
    cases, told = told_of(long579.cases, tmp_path)
    assert {name: case.participant.get("age") for name, case in cases.items()} == {
        "5003_5": 5.3,
        "5003_7": 8.1,
        "5003_9": None,  # the nominal age is never used
        "5004_7": 8.0,
        "5005_9": 9.83,
        "5006_9": None,  # 9 months is no age of a child in this study
    }
    assert told["no age at the scan"] == ["sub-5003_ses-9", "sub-5006_ses-9"]
    assert len({case.subject for case in cases.values()}) == 4 and cases["5003_5"].participant["sex"] == "F"


def test_pixar(tmp_path):
    touch(tmp_path, "sub-pixar001/anat/sub-pixar001_T1w.nii.gz", "sub-pixar123/anat/sub-pixar123_T1w.nii.gz")
    header = ["participant_id", "Age", "AgeGroup", "Child_Adult", "Gender"]
    rows = [["sub-pixar001", "4.774811", "4yo", "child", "M"], ["sub-pixar123", "27.06", "Adult", "adult", "F"]]
    sheet(tmp_path / "participants.tsv", header, rows, "\t")
    cases, told = told_of(pixar.cases, tmp_path)
    assert [case.participant for case in cases.values()] == [{"age": 4.774811, "sex": "M"}, {"age": 27.06, "sex": "F"}]
    assert not told


def test_camcan(tmp_path):
    touch(tmp_path, "anat/sub-CC110033/anat/sub-CC110033_T1w.nii.gz", "anat/sub-CC110033/anat/sub-CC110033_T2w.nii.gz")
    touch(tmp_path, "anat/sub-CC110037/anat/sub-CC110037_T1w.nii.gz")
    sheet(tmp_path / "participant_data.csv", ["CCID", "Age", "Hand", "gender_code"], [["CC110033", 24, 80, 1]])
    cases, told = told_of(camcan.cases, tmp_path)
    assert cases["CC110033"].participant == {"age": 24, "sex": "M"} and cases["CC110037"].participant == {}
    assert told == {"no row in the participants table": ["CC110037"]}


def test_hcp_families(tmp_path):
    touch(
        tmp_path,
        *(f"{n}/T1w/{name}.nii.gz" for n in (100307, 100408) for name in ("T1w_acpc_dc_restore", "brainmask_fs")),
    )
    touch(tmp_path, "100307/T1w/T2w_acpc_dc_restore.nii.gz", "101107/unprocessed/3T/T1w_MPR1/101107_3T_T1w_MPR1.nii.gz")
    touch(tmp_path, "101107/T1w/brainmask_fs.nii.gz", "101200/MNINonLinear/x.nii.gz")
    sheet(
        tmp_path / "unrestricted_me.csv", ["Subject", "Gender", "Age"], [[100307, "F", "26-30"], [100408, "M", "36+"]]
    )
    cases, told = told_of(hcp.cases, tmp_path)
    assert (
        cases["100408"].participant == {"age_band": "36+", "sex": "M"} and "family" not in cases["100307"].participant
    )
    family = "no Family_ID: relatives may stand on both sides of a split"
    assert told[family] == ["100307", "100408", "101107"]
    assert told["left out, no structural image in its folder"] == ["101200"]
    rows = [[100307, 27, "51488_81149"], [100408, 33, "51488_81149"], [101107, 22, "5"]]
    sheet(tmp_path / "RESTRICTED_me.csv", ["Subject", "Age_in_Yrs", "Family_ID"], rows)
    cases, told = told_of(hcp.cases, tmp_path)
    assert cases["100307"].participant["family"] == cases["100408"].participant["family"] == "51488_81149"
    assert cases["101107"].participant == {"age": 22, "family": "5"} and family not in told
    assert (
        cases["100307"].scans[1].contrast == "T2w" and cases["100307"].scans[0].brain_mask.name == "brainmask_fs.nii.gz"
    )
    assert cases["101107"].scans[0].brain_mask is None  # it lies on the grid of the preprocessed image


def test_corr_ages_by_session(tmp_path):
    touch(tmp_path, *(f"BNU_1/0025864/session_{n}/anat_1/anat.nii.gz" for n in (1, 2, 3)))
    touch(
        tmp_path,
        "BNU_1/0025864/session_1/anat_2/anat.nii.gz",
        "UPSM_1/sub-0025248/ses-1/anat/sub-0025248_ses-1_T1w.nii.gz",
    )
    rows = [["25864", "Baseline", "22", "1"], ["25864", "Retest_1", "22.5", "1"], ["25248", "Baseline", "#", "2"]]
    sheet(tmp_path / "CoRR_AggregatedPhenotypicData.csv", ["SUBID", "SESSION", "AGE_AT_SCAN_1", "SEX"], rows)
    cases, told = told_of(corr.cases, tmp_path)
    assert {name: case.participant for name, case in cases.items()} == {
        "0025248_1": {},
        "0025864_1": {"age": 22},
        "0025864_2": {"age": 22.5},
        "0025864_3": {},
    }
    assert told["no row for this session in the phenotypic table"] == ["0025864_3"]
    assert cases["0025864_1"].site == "BNU_1"
