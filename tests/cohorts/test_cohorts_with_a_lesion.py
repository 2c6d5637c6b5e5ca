"""BraTS of every release, UPENN-GBM, UCSF-PDGM, ATLAS: time points, label schemes, survival, spellings, counts."""

from collections import Counter

import openpyxl
import pytest

from braindino import catalog
from braindino.cohorts import atlas2, brats2021, brats2023_men, ucsf_pdgm, upenn_gbm
from braindino.layouts.brats import RELEASES, release_of
from braindino.layouts.labels import SCHEMES
from trees import sheet, told_of, touch

OLD, NEW = ("t1", "t1ce", "t2", "flair", "seg"), ("t1n", "t1c", "t2w", "t2f", "seg")


@pytest.mark.parametrize(
    ("cohort", "folders", "names", "scheme"),
    [
        ("brats2021", {"BraTS2021_00000": "BraTS2021_00000", "BraTS2021_01666": "BraTS2021_01666"}, OLD, "brats2021"),
        ("brats2023_gli", {"BraTS-GLI-00000-000": "BraTS-GLI-00000"}, NEW, "brats2023"),
        ("brats2023_mets", {f"BraTS-MET-00002-00{n}": "BraTS-MET-00002" for n in (0, 1)}, NEW, "brats2023"),
        ("brats2023_men", {f"BraTS-MEN-00004-00{n}": "BraTS-MEN-00004" for n in (0, 1, 2)}, NEW, "brats2023"),
        (
            "brats2024_goat",
            {"BraTS-GoAT-00000": "BraTS-GoAT-00000", "BraTS-GoAT-00001": "BraTS-GoAT-00001"},
            NEW,
            "brats2023",
        ),
    ],
)
def test_brats(tmp_path, cohort, folders, names, scheme):
    mark = "_" if names is OLD else "-"
    for folder in folders:
        touch(tmp_path, *(f"Training/data/{folder}/{folder}{mark}{name}.nii.gz" for name in names))
    cases, told = told_of(catalog.load("cohorts", cohort).cases, tmp_path)
    assert {name.replace("_", "-"): case.subject for name, case in cases.items()} == {
        name.replace("_", "-"): subject for name, subject in folders.items()
    }
    assert not told
    for case in cases.values():
        assert [scan.contrast for scan in case.scans] == ["T1w", "T1ce", "T2w", "FLAIR"]
        assert case.scans[0].label_map.name.endswith("seg.nii.gz") and case.participant["label_scheme"] == scheme
        assert case.participant["group"] in ("glioma", "metastasis", "meningioma", "tumour")
    assert (4 in SCHEMES[scheme].values) == (cohort == "brats2021")


def test_every_brats_name_belongs_to_one_release():
    for name, release in RELEASES.items():
        assert release_of(release.example) == name
    assert release_of("BraTS20_Training_001") == "brats2020" and release_of("BraTS-GoAT-00000-000") == ""
    assert release_of("BraTS-MEN-RT-0000-1") == ""


def test_a_folder_of_another_release_is_refused(tmp_path):
    touch(
        tmp_path,
        "BraTS-MEN-00004-000/BraTS-MEN-00004-000-t1n.nii.gz",
        "BraTS-GLI-00001-000/x",
        "BraTS20_Training_001/x",
    )
    with pytest.raises(
        ValueError, match=r"BraTS20_Training_001, BraTS-GLI-00001-000 \(brats2020, brats2023_gli\), expected"
    ):
        brats2023_men.cases(tmp_path)
    with pytest.raises(ValueError, match="nothing of this cohort; expected folders like BraTS2021_00000"):
        brats2021.cases(tmp_path / "BraTS20_Training_001")
    with pytest.raises(ValueError, match="is not a folder"):
        brats2021.cases(tmp_path / "nowhere")


def test_brats_defects(tmp_path):
    touch(tmp_path, *(f"a/BraTS2021_00557/BraTS2021_00557_{name}.nii.gz" for name in OLD[:4]))
    touch(tmp_path, *(f"a/BraTS2021_00639/BraTS2021_00639_{name}.nii" for name in OLD if name != "t2"))
    touch(tmp_path, "b/BraTS2021_00639/BraTS2021_00639_t1.nii", "a/BraTS2021_00700/readme.txt")
    cases, told = told_of(brats2021.cases, tmp_path)
    assert cases["BraTS2021_00557"].participant == {"group": "glioma", "family": "BraTS2021_00557"}
    assert cases["BraTS2021_00639"].participant["family"] == "BraTS2021_00557"  # one patient under two ids
    assert cases["BraTS2021_00639"].participant["also_in"] == "brats2021/BraTS2021_00557"
    assert told == {
        "no label map (as in validation sets)": ["BraTS2021_00557"],
        "no T2w": ["BraTS2021_00639"],
        "left out, a folder of this name was read before": ["b/BraTS2021_00639"],
        "left out, its folder holds no image named like it": ["BraTS2021_00700"],
    }


def test_upenn_counts(tmp_path):
    """630 patients, 671 scans, survival for 452, IDH 546 wild, 19 mutated, 106 unknown, 611 masks, 147 corrected."""
    names = [f"UPENN-GBM-{n:05d}_11" for n in range(1, 631)] + [f"UPENN-GBM-{n:05d}_21" for n in range(1, 42)]
    rows = []
    for n, name in enumerate(names):
        touch(tmp_path, *(f"images_structural/{name}/{name}_{c}.nii.gz" for c in ("T1", "T1GD", "T2", "FLAIR")))
        if n < 611:
            touch(tmp_path, f"automated_segm/{name}_automated_approx_segm.nii.gz")
        if n < 147:
            touch(tmp_path, f"images_segm/{name}_segm.nii.gz")
        status = "Deceased" if n < 400 else "Lost to Follow-up" if n < 452 else "Not Available"
        days = str(30 + n) if n < 452 or n > 640 else "Not Available"
        censor = {"Deceased": 1, "Lost to Follow-up": 0}.get(status, "Not Available") if n != 7 else 0
        status = "Deceased" if n > 650 else status  # a follow-up row may repeat the patient's survival
        idh1 = "Wildtype" if n < 546 else "Mutated" if n < 565 else "NOS/NEC"
        rows.append([name, "MF"[n % 2], 60 + n / 100, days, status, censor, idh1, "Indeterminate"])
    header = ["ID", "Gender", "Age_at_scan_years", "Survival_from_surgery_days_UPDATED", "Survival_Status"]
    sheet(tmp_path / "UPENN-GBM_clinical_info_v2.1.csv", [*header, "Survival_Censor", "IDH1", "MGMT"], rows)
    cases, told = told_of(upenn_gbm.cases, tmp_path)
    assert len(cases) == 671 and len({case.subject for case in cases.values()}) == 630
    known = [case for case in cases.values() if "survival_days" in case.participant]
    assert len(known) == 452 and Counter(case.participant["event"] for case in known) == {1: 400, 0: 52}
    assert {case.session for case in known} == {"11"}  # survival runs from surgery, which the follow-up is after
    words = Counter(case.participant.get("idh") for case in cases.values())
    assert words == {"wildtype": 546, "mutant": 19, None: 106}
    assert sum(case.scans[0].label_map is not None for case in cases.values()) == 611
    assert sum("images_segm" in str(case.scans[0].label_map) for case in cases.values()) == 147
    assert {case.participant["label_scheme"] for case in cases.values() if case.scans[0].label_map} == {"brats2021"}
    assert cases["UPENN-GBM-00002_11"].participant["survival_days"] == 31
    assert len(told["automated label map, none corrected by hand"]) == 464 and len(told["no label map"]) == 60
    assert len(told["no survival (status or days not available)"]) == 178
    assert told["Survival_Censor contradicts Survival_Status, which is followed"][0] == "UPENN-GBM-00008_11"


def test_upenn_names_that_do_not_fit(tmp_path):
    touch(tmp_path, "NIfTI/images_structural/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1.nii.gz")
    touch(tmp_path, "NIfTI/images_structural/UPENN-GBM-00002_11/UPENN-GBM-00003_11_T1.nii.gz")
    cases, told = told_of(upenn_gbm.cases, tmp_path)
    assert list(cases) == ["UPENN-GBM-00001_11"] and told["no T1ce"] == ["UPENN-GBM-00001_11"]
    assert told["left out, no image named like its folder"] == ["UPENN-GBM-00002_11"]


def test_ucsf_counts_ids_and_spellings(tmp_path):
    """501 exams of 495 patients; 4 digits in folders, 3 in the table; IDH 398 wild, 103 mutant; 298 in BraTS 2021."""
    wild = ("wildtype", "Wildtype", "wild-type")
    mutant = ("mutated (NOS)", "IDH1 p.R132H", "IDH2 p.R172K", "IDH1 p.R132C", "mutated")
    rows = []
    for n in range(1, 502):
        number, follow = (n, "") if n <= 495 else (n - 490, "_FU003d")
        name = f"UCSF-PDGM-{number:04d}{follow}"
        files = ("T1", "T1c", "T2", "FLAIR", "T1_bias", "tumor_segmentation", "brain_segmentation")
        touch(tmp_path, *(f"{name}_nifti/{name}_{c}.nii.gz" for c in files))
        idh = wild[n % 3] if n <= 398 else mutant[n % 5]
        other = f"BraTS2021_{n:05d}" if n <= 298 else ""
        os = "" if n == 9 else n * 3
        rows.append([f"UCSF-PDGM-{number:03d}{follow}", "MF"[n % 2], 50, 4, "negative", idh, n % 2, os, other])
    header = ["ID", "Sex", "Age at MRI", "WHO CNS Grade", "MGMT status", "IDH", "1-dead 0-alive", "OS", "BraTS21 ID"]
    sheet(tmp_path / "UCSF-PDGM-metadata_v5.csv", header, rows)
    cases, told = told_of(ucsf_pdgm.cases, tmp_path)
    assert len(cases) == 501 and len({case.subject for case in cases.values()}) == 495
    assert Counter(case.participant["idh"] for case in cases.values()) == {"wildtype": 398, "mutant": 103}
    assert sum("also_in" in case.participant for case in cases.values()) == 298
    follow_ups = [case for case in cases.values() if case.session]
    assert len(follow_ups) == 6 and {case.session for case in follow_ups} == {"FU003d"}
    assert all("survival_days" not in case.participant and "idh" in case.participant for case in follow_ups)
    assert cases["UCSF-PDGM-0004"].participant == {
        "group": "glioma",
        "age": 50,
        "sex": "M",
        "grade": 4,
        "idh": "wildtype",
        "mgmt": "unmethylated",
        "survival_days": 12,
        "event": 0,
        "also_in": "brats2021/BraTS2021_00004",
        "label_scheme": "brats2021",
    }
    assert cases["UCSF-PDGM-0004"].scans[0].brain_mask.name == "UCSF-PDGM-0004_brain_segmentation.nii.gz"
    assert told == {"no survival (OS or state not available)": ["UCSF-PDGM-0009"]}


def test_atlas_time_is_never_imputed(tmp_path):
    stem = "ses-1_space-MNI152NLin2009aSym"
    for split, subject in (
        ("Training", "r001s001"),
        ("Training", "r001s002"),
        ("Testing", "r003s007"),
        ("Training", "r009s001"),
    ):
        folder = f"ATLAS_2/{split}/{subject[:4].upper()}/sub-{subject}/ses-1/anat/sub-{subject}_{stem}"
        touch(tmp_path, f"{folder}_T1w.nii.gz")
        if split == "Training":
            touch(tmp_path, f"{folder}_label-L_desc-T1lesion_mask.nii.gz")
    book = openpyxl.Workbook()
    lines = (["Subject ID", "DAYS_POST_STROKE", "CHRONICITY"], ["sub-r001s001", 12, ""], ["r001s002", None, 180])
    for line in (*lines, ["R003S007", ">180", 180]):
        book.active.append(line)
    book.save(tmp_path / "20220425_ATLAS_2.0_MetaData.xlsx")
    cases, told = told_of(atlas2.cases, tmp_path)
    assert {name: case.participant.get("days_since_stroke") for name, case in cases.items()} == {
        "r001s001_1": 12,
        "r001s002_1": None,
        "r003s007_1": None,
        "r009s001_1": None,
    }
    assert [case.scans[0].label_map is not None for case in cases.values()] == [True, True, False, True]
    assert cases["r001s001_1"].site == "R001" and cases["r001s001_1"].participant["label_scheme"] == "lesion"
    assert told["no days since stroke"] == ["r001s002", "r003s007"] and told["no row in the ATLAS sheet"] == [
        "r009s001"
    ]
    assert told["no lesion mask (as in the test set)"] == ["r003s007"]
    assert any("'>180', not a number" in kind for kind in told)
