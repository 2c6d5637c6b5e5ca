"""ABIDE, ADHD-200, ADNI, PPMI, OASIS-1, OASIS-3: codes, missing values, visits, and defects of the published tables."""

from collections import Counter

import pytest

from braindino.cohorts import abide, adhd200, adni, oasis1, oasis3, ppmi
from trees import sheet, told_of, touch


def test_abide_counts_and_codes(tmp_path):
    """1112 rows, 1102 of them with a T1w; -9999 or blank is missing; 20 people with autism carry DSM code 0."""
    rows = []
    for n in range(1112):
        group = 1 if n % 2 else 2
        age = "-9999" if n == 5 else "" if n == 6 else f"{6 + n * 0.05:.2f}"
        dsm = 0 if group == 2 or n < 40 else 1
        rows.append([f"SITE{n % 20}", 50002 + n, group, dsm, age, 1 if n % 10 else 2])
    sheet(tmp_path / "Phenotypic_V1_0b.csv", ["SITE_ID", "SUB_ID", "DX_GROUP", "DSM_IV_TR", "AGE_AT_SCAN", "SEX"], rows)
    for n in range(1102):
        touch(tmp_path, f"Folder{n % 24}/sub-{50002 + n:07d}/anat/sub-{50002 + n:07d}_T1w.nii.gz")
    touch(tmp_path, "Folder1/sub-0099999/anat/sub-0099999_T1w.nii.gz")
    cases, told = told_of(abide.cases, tmp_path)
    assert len(cases) == 1103 and sum("diagnosis" in case.participant for case in cases.values()) == 1102
    assert Counter(case.participant.get("diagnosis") for case in cases.values()) == {
        "autism": 551,
        "healthy": 551,
        None: 1,
    }
    assert sum("age" in case.participant for case in cases.values()) == 1100
    assert cases["0050003"].participant == {"age": 6.05, "sex": "M", "diagnosis": "autism"}  # DSM code 0
    assert cases["0050003"].site == "SITE1" and len({case.site for case in cases.values()} - {"Folder1"}) == 20
    assert told["no row in the phenotypic table"] == ["0099999"] and len(told) == 2
    assert len(told["rows of the phenotypic table without a scan"]) == 10
    assert "age" not in cases["0050007"].participant and "age" not in cases["0050008"].participant


def test_abide_value_outside_the_code_book_and_older_layout(tmp_path):
    touch(tmp_path, "NYU_a/0051456/session_1/anat_1/mprage.nii.gz", "NYU_b/0051456/session_1/anat_1/mprage.nii.gz")
    sheet(tmp_path / "Phenotypic_V1_0b.csv", ["SUB_ID", "DX_GROUP", "SEX"], [[51456, 3, 1]])
    cases, told = told_of(abide.cases, tmp_path)
    assert cases["0051456_1"].participant == {"sex": "M"} and cases["0051456_1"].site == "NYU_a"
    assert told == {
        "left out, the same subject and session were read before": ["NYU_b/0051456"],
        "DX_GROUP is '3', which is not in its code book, and is left empty": ["51456"],
    }
    with pytest.raises(ValueError, match="nothing of this cohort; expected <site>/sub-"):
        abide.cases(tmp_path / "NYU_a" / "0051456")


def test_adhd200_doubled_rows(tmp_path):
    for site, number in (("NYU", 10001), ("NYU", 10002), ("Peking_1", 10003), ("WashU", 10004)):
        touch(tmp_path, f"{site}/sub-{number:07d}/ses-1/anat/sub-{number:07d}_ses-1_run-1_T1w.nii.gz")
    header = ["participant_id", "gender", "age", "dx"]
    sheet(
        tmp_path / "NYU/participants.tsv",
        header,
        [[10001, 1, 9.5, "pending"], [10001, 1, 9.5, 3], [10002, 0, 8, 0]],
        "\t",
    )
    sheet(tmp_path / "Peking_1/participants.tsv", header, [[10003, "Female", 9, 1], [10003, "Female", 10, 1]], "\t")
    sheet(tmp_path / "WashU/participants.tsv", header, [[10004, "-999", 11, "Typically Developing Children"]], "\t")
    cases, told = told_of(adhd200.cases, tmp_path)
    assert [case.participant for case in cases.values()] == [
        {"age": 9.5, "sex": "M", "diagnosis": "adhd"},
        {"age": 8, "sex": "F", "diagnosis": "healthy"},
        {"sex": "F", "diagnosis": "adhd"},
        {"age": 11, "diagnosis": "healthy"},
    ]
    assert told == {
        "rows of the participants table for one id, merged": ["10001 x 2", "10003 x 2"],
        "the participants table: age differs between rows of one id and is left empty": ["10003"],
    }
    assert {case.site for case in cases.values()} == {"NYU", "Peking_1", "WashU"}


def adni_image(root, person, series, day, image, ending="nii"):
    touch(root, f"ADNI/{person}/{series}/{day}_08_20_30.0/{image}/ADNI_{person}_{image}.{ending}")


def test_adni_age_at_the_scan_and_nearest_diagnosis(tmp_path):
    adni_image(tmp_path, "002_S_0295", "MPR__GradWarp__B1_Correction__N3", "2006-04-18", "I118671")
    adni_image(tmp_path, "002_S_0295", "MP-RAGE", "2006-04-18", "I13722")
    adni_image(tmp_path, "002_S_0295", "MP-RAGE", "2008-07-20", "I300", "dcm")
    adni_image(tmp_path, "002_S_0295", "MP-RAGE", "2012-01-01", "I400")
    adni_image(tmp_path, "011_S_0003", "Axial_T2-FLAIR", "2006-01-01", "I500")
    adni_image(tmp_path, "011_S_0003", "Axial_DTI", "2006-01-01", "I501")
    header = ["RID", "PTID", "VISCODE", "EXAMDATE", "DX_bl", "AGE", "PTGENDER", "DX", "EXAMDATE_bl"]
    rows = [
        [295, "002_S_0295", "bl", "2006-04-20", "CN", 84.8, "Male", "CN", "2006-04-20"],
        [295, "002_S_0295", "m24", "2008-04-20", "CN", 84.8, "Male", "MCI", "2006-04-20"],
        [295, "002_S_0295", "m27", "2008-07-19", "CN", 84.8, "Male", "", "2006-04-20"],
        [3, "011_S_0003", "bl", "2005-12-30", "AD", 81.3, "Female", "Dementia", "2005-12-30"],
    ]
    sheet(tmp_path / "ADNIMERGE_12Nov2024.csv", header, rows)
    cases, told = told_of(adni.cases, tmp_path)
    assert {name: case.participant for name, case in cases.items()} == {
        "002_S_0295_20060418": {"age": 84.79, "sex": "M", "diagnosis": "healthy"},
        "002_S_0295_20080720": {"age": 87.05, "sex": "M", "diagnosis": "mci"},
        "002_S_0295_20120101": {"age": 90.5, "sex": "M"},
        "011_S_0003_20060101": {"age": 81.31, "sex": "F", "diagnosis": "dementia"},
    }
    assert cases["002_S_0295_20060418"].scans[0].path.name == "ADNI_002_S_0295_I13722.nii"
    assert cases["002_S_0295_20080720"].scans[0].path.name == "I300"  # a folder of DICOM files
    assert cases["011_S_0003_20060101"].scans[0].contrast == "FLAIR"
    assert told["left out, another T1w of the visit was taken"] == ["002_S_0295 I118671"]
    assert told["no diagnosis within 180 days of the scan"] == ["002_S_0295_20120101"]
    assert told["left out, series Axial_DTI is not read as an anatomical contrast"] == ["011_S_0003"]


def test_adni_quality_control_and_the_tables_of_late_2024(tmp_path):
    for image in ("I100", "I200"):
        adni_image(tmp_path, "002_S_0295", "MP-RAGE", "2006-04-18", image)
    header = ["loni_image", "series_selected"]
    sheet(tmp_path / "MAYOADIRL_MRI_IMAGEQC_12_08_15.csv", header, [["I100", 0], ["200", 1]])
    rows = [["002_S_0295", "2006-04-01", 2], ["002_S_0295", "2006-05-05", 3], ["002_S_0295", "2006-04-18", 1]]
    sheet(tmp_path / "DXSUM_12Nov2024.csv", ["PTID", "EXAMDATE", "DIAGNOSIS"], [*rows, ["002_S_0295", "2006-04-18", 3]])
    cases, told = told_of(adni.cases, tmp_path)
    (case,) = cases.values()
    assert case.scans[0].path.parent.name == "I200"
    assert case.participant == {"diagnosis": "mci"}  # 17 days before and after: the earlier
    assert told["several diagnoses on one day, none is used"] == ["002_S_0295 2006-04-18"]
    assert "no age" in told and "no such table, so its columns are missing" in told


def test_ppmi(tmp_path):
    for person, day in ((3001, "2011-03-15"), (3001, "2012-03-15"), (3002, "2011-01-01"), (3003, "2011-01-01")):
        touch(tmp_path, f"PPMI/{person}/MPRAGE_GRAPPA/{day}_10_00_00.0/I{person}{day[:4]}/x.nii")
    header = ["PATNO", "COHORT", "COHORT_DEFINITION", "ENROLL_DATE", "ENROLL_AGE"]
    rows = [[3001, 1, "Parkinson's Disease", "03/2011", 60], [3002, 2, "Healthy Control", "01/2011", 50.0]]
    sheet(tmp_path / "Participant_Status_01Jan2025.csv", header, rows)
    sheet(tmp_path / "Demographics_01Jan2025.csv", ["PATNO", "SEX", "BIRTHDT"], [[3001, 0, "03/1950"], [3002, 1, ""]])
    cases, told = told_of(ppmi.cases, tmp_path)
    assert {name: case.participant for name, case in cases.items()} == {
        "3001_20110315": {"age": 61.0, "sex": "F", "diagnosis": "parkinson"},
        "3001_20120315": {"age": 62.0, "sex": "F", "diagnosis": "parkinson"},
        "3002_20110101": {"age": 49.96, "sex": "M", "diagnosis": "healthy"},
        "3003_20110101": {},
    }
    assert told == {"no diagnosis": ["3003"]}


def test_oasis1_second_visits_and_empty_ratings(tmp_path):
    """416 people, 20 of them twice; CDR is empty for the young and for second visits, and that is not 0."""
    rows = []
    names = [f"OAS1_{n:04d}_MR1" for n in range(1, 417)] + [f"OAS1_{n:04d}_MR2" for n in range(1, 21)]
    for n, name in enumerate(names):
        cdr = "" if n < 200 or name.endswith("MR2") else ("0", "0.5", "1", "2")[n % 4]
        rows.append([name, "F" if n % 2 else "M", "R", 18 + n % 78, cdr])
        disc = f"disc{1 + n % 12}/{name}/PROCESSED/MPRAGE"
        touch(tmp_path, *(f"{disc}/T88_111/{name}_mpr_n4_anon_111_t88_masked_gfc.{end}" for end in ("hdr", "img")))
        touch(tmp_path, f"{disc}/SUBJ_111/{name}_mpr_n4_anon_sbj_111.hdr")
    sheet(tmp_path / "oasis_cross-sectional.csv", ["ID", "M/F", "Hand", "Age", "CDR"], rows)
    touch(
        tmp_path,
        "disc1/OAS1_9999_MR1/RAW/OAS1_9999_MR1_mpr-2_anon.hdr",
        "disc1/OAS1_9999_MR1/RAW/OAS1_9999_MR1_mpr-1_anon.hdr",
    )
    touch(tmp_path, "disc1/OAS1_9998_MR1/RAW/nothing.txt")
    cases, told = told_of(oasis1.cases, tmp_path)
    assert len(cases) == 437 and len({case.subject for case in cases.values()}) == 417
    assert Counter(case.participant.get("diagnosis") for case in cases.values()) == {
        "healthy": 54,
        "dementia": 162,
        None: 221,
    }
    assert "cdr" not in cases["OAS1_0001_MR1"].participant and cases["OAS1_0201_MR1"].participant["cdr"] == 0
    assert cases["OAS1_0001_MR2"].subject == "OAS1_0001" and cases["OAS1_0001_MR2"].session == "MR2"
    assert cases["OAS1_0001_MR1"].scans[0].path.name == "OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr"
    assert cases["OAS1_9999_MR1"].scans[0].path.name == "OAS1_9999_MR1_mpr-1_anon.hdr"
    assert told == {
        "left out, no image in its folder": ["disc1/OAS1_9998_MR1"],
        "no row in oasis_cross-sectional": ["OAS1_9999_MR1"],
    }


def test_oasis3_nearest_clinical_day(tmp_path):
    for day in ("d0129", "d0757", "d2500"):
        stem = f"OAS30001_MR_{day}/anat1/sub-OAS30001_ses-{day}"
        touch(tmp_path, f"{stem}_run-02_T1w.nii.gz", f"{stem}_run-01_T1w.nii.gz")
    touch(tmp_path, "OAS30001_MR_d0757/anat2/sub-OAS30001_ses-d0757_FLAIR.nii.gz")
    touch(tmp_path, "OAS30002_MR_d0010/anat1/sub-OAS30001_ses-d0010_T1w.nii.gz")
    header = ["OASISID", "OASIS_session_label", "days_to_visit", "CDRSUM", "CDRTOT"]
    rows = [
        ["OAS30001", "OAS30001_UDSb4_d0000", 0, 0, 0],
        ["OAS30001", "OAS30001_UDSb4_d0258", 258, 1, 0.5],  # 129 days from d0129, like day 0
        ["OAS30001", "OAS30001_UDSb4_d0700", 700, 3, 1],
        ["OAS30001", "OAS30001_UDSb4_d0760", 760, "", ""],
    ]
    sheet(tmp_path / "OASIS3_UDSb4_cdr.csv", header, rows)
    sheet(tmp_path / "OASIS3_demographics.csv", ["OASISID", "AgeatEntry", "GENDER"], [["OAS30001", 65.15, 2]])
    cases, told = told_of(oasis3.cases, tmp_path)
    assert {name: case.participant for name, case in cases.items()} == {
        "OAS30001_d0129": {"age": 65.5, "sex": "F", "cdr": 0, "diagnosis": "healthy"},
        "OAS30001_d0757": {"age": 67.22, "sex": "F", "cdr": 1, "diagnosis": "dementia"},
        "OAS30001_d2500": {"age": 71.99, "sex": "F"},
    }
    assert [scan.path.name for scan in cases["OAS30001_d0757"].scans] == [
        "sub-OAS30001_ses-d0757_run-01_T1w.nii.gz",
        "sub-OAS30001_ses-d0757_FLAIR.nii.gz",
    ]
    assert told["no rating within 365 days of the scan"] == ["OAS30001_d2500"]
    assert told["left out, its name contradicts its folder"] == ["sub-OAS30001_ses-d0010_T1w.nii.gz"]
    assert len(told["left out, another T1w of the session was taken"]) == 3
