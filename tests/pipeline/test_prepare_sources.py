"""Many sources in one corpus: a file of them, one cohort in two folders, names that could make one person of two."""

import shutil

import pytest

from braindino.pipeline.fit import load_task
from braindino.pipeline.prepare import prepare
from braindino.pipeline.sources import listed_sources, source_fingerprint
from braindino.record import read_record
from braindino.types import Case, Scan
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from phantom import head
from trees import sheet

RECIPE = Recipe(spacing_mm=10.0, size_px=16, slices=2)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    volume = head((16, 18, 14), (10.0, 10.0, 10.0))
    write_nifti(path, volume.voxels[0], volume.affine)
    return path


def put(scan, *paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, path)


def every_cohort(root, scan):
    """One scan of each of twenty sources, where its own layout wants it; the sources as COHORT=PATH."""
    brats = {
        "brats2023_gli": "BraTS-GLI-00000-000",
        "brats2023_mets": "BraTS-MET-00002-000",
        "brats2023_men": "BraTS-MEN-00004-000",
        "brats2024_goat": "BraTS-GoAT-00000",
    }
    places = {
        "ixi": "IXI002-Guys-0828-T1.nii.gz",
        "abide": "NYU/sub-0050002/anat/sub-0050002_T1w.nii.gz",
        "adhd200": "NYU/sub-0010001/ses-1/anat/sub-0010001_ses-1_run-1_T1w.nii.gz",
        "corr": "BNU_1/0025864/session_1/anat_1/anat.nii.gz",
        "adni": "ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I1/x.nii.gz",
        "ppmi": "PPMI/3001/MPRAGE/2011-03-15_08_20_30.0/I2/x.nii.gz",
        "oasis1": "disc1/OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.nii.gz",
        "oasis3": "OAS30001_MR_d0757/anat1/sub-OAS30001_ses-d0757_T1w.nii.gz",
        "long579": "sub-5003/ses-5/anat/sub-5003_ses-5_T1w.nii.gz",
        "pixar": "sub-pixar001/anat/sub-pixar001_T1w.nii.gz",
        "atlas2": "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI_T1w.nii.gz",
        "upenn_gbm": "images_structural/UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1.nii.gz",
        "ucsf_pdgm": "UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1.nii.gz",
        "brats2021": "BraTS2021_00000/BraTS2021_00000_t1.nii.gz",
        **{cohort: f"{name}/{name}-t1n.nii.gz" for cohort, name in brats.items()},
        "hcp": "100307/T1w/T1w_acpc_dc_restore.nii.gz",
        "camcan": "sub-CC110033/anat/sub-CC110033_T1w.nii.gz",
        "bids": "sub-01/anat/sub-01_T1w.nii.gz",
        "folder": "any_T1w.nii.gz",
    }
    for cohort, place in places.items():
        put(scan, root / cohort / place)
    put(scan, root / "mine" / "a.nii.gz")
    sheet(root / "mine" / "mine.csv", ["path", "subject", "contrast"], [["a.nii.gz", "1", "T1w"]])
    return [*(f"{cohort}={cohort}" for cohort in places), "csv=mine/mine.csv"]


def test_more_than_twenty_sources_in_one_file(tmp_path, scan, capsys):
    sources = every_cohort(tmp_path, scan)
    listed = ",\n".join(f'  "{source}"' for source in sources)
    (tmp_path / "sources.toml").write_text(f"sources = [\n{listed},\n]\n")
    corpus = prepare([str(tmp_path / "sources.toml")], tmp_path / "corpus", RECIPE, workers=1)
    assert len(sources) == 23 and corpus.index["cohort"].nunique() == 23
    assert {"ixi", "bids:bids", "csv:mine", "folder"} < set(corpus.index["cohort"])
    record = read_record(tmp_path / "corpus")
    assert len(record["parents"]) == 23 and record["facts"]["scans"] == 23 and record["facts"]["quarantined"] == 0
    told = record["facts"]["notes"]["ixi"]
    assert told == ["no such table, so its columns are missing: 1 (IXI.xls from brain-development.org/ixi-dataset)"]
    assert f"note: ixi: {told[0]}" in capsys.readouterr().err


def test_one_cohort_in_two_folders(tmp_path, scan):
    put(scan, tmp_path / "a" / "IXI002-Guys-0828-T1.nii.gz", tmp_path / "b" / "IXI012-HH-1211-T1.nii.gz")
    corpus = prepare([f"ixi={tmp_path / 'a'}", f"ixi={tmp_path / 'b'}"], tmp_path / "corpus", RECIPE, workers=1)
    assert set(corpus.index["subject"]) == {"IXI002", "IXI012"}
    assert sorted(read_record(tmp_path / "corpus")["parents"]) == ["ixi", "ixi #2"]
    with pytest.raises(ValueError, match=r"are both T1w of ixi/IXI002; give each scan once"):
        prepare([f"ixi={tmp_path / 'a'}", f"ixi={tmp_path / 'a'}"], tmp_path / "other", RECIPE, workers=1)


def test_two_people_of_one_name_never_become_one(tmp_path, scan):
    for place in ("x/raw", "y/raw", "y/more"):
        put(scan, tmp_path / place / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    with pytest.raises(ValueError, match="two sources are both called bids:raw; rename one"):
        prepare([str(tmp_path / "x/raw"), f"bids={tmp_path / 'y/raw'}"], tmp_path / "corpus", RECIPE, workers=1)
    corpus = prepare([str(tmp_path / "x/raw"), str(tmp_path / "y/more")], tmp_path / "corpus", RECIPE, workers=1)
    assert sorted(corpus.slices_of_subject) == ["bids:more/01", "bids:raw/01"]


def test_a_task_names_its_cohort_as_the_corpus_does(tmp_path, scan):
    names = [f"sub-{n:02d}" for n in range(10)]
    put(scan, *(tmp_path / name / "anat" / f"{name}_T1w.nii.gz" for name in names))
    sheet(
        tmp_path / "participants.tsv", ["participant_id", "age"], [[name, 20 + n] for n, name in enumerate(names)], "\t"
    )
    assert load_task("brain_age", tmp_path, "bids").cohort == f"bids:{tmp_path.name}"


def test_a_source_file_that_does_not_fit(tmp_path):
    (tmp_path / "s.toml").write_text('source = ["a"]\n')
    with pytest.raises(ValueError, match="unknown key 'source'; did you mean 'sources'"):
        listed_sources([str(tmp_path / "s.toml")])
    with pytest.raises(ValueError, match="no config file"):
        listed_sources([str(tmp_path / "none.toml")])
    (tmp_path / "s.toml").write_text('sources = ["ixi=IXI", "/abs/x", "y"]\n')
    assert listed_sources(["z", str(tmp_path / "s.toml")]) == ["z", f"ixi={tmp_path}/IXI", "/abs/x", f"{tmp_path}/y"]
    (tmp_path / "s.toml").write_text('sources = ["s.toml"]\n')
    with pytest.raises(ValueError, match=r"lists s\.toml; expected folders and files of scans"):
        listed_sources([str(tmp_path / "s.toml")])


def test_age_and_sex_of_each_session_stand_in_the_table_of_scans(tmp_path, scan, capsys):
    tree = tmp_path / "raw"
    put(
        scan,
        *(tree / f"sub-{n}" / f"ses-{s}" / "anat" / f"sub-{n}_ses-{s}_T1w.nii.gz" for n in (1, 2, 3) for s in "ab"),
    )
    rows = [["sub-1", 30, "female"], ["sub-2", "n/a", "M"], ["sub-3", 999, "n/a"]]
    sheet(tree / "participants.tsv", ["participant_id", "age", "sex"], rows, "\t")
    sheet(tree / "sub-1" / "sub-1_sessions.tsv", ["session_id", "age"], [["ses-b", 32.5]], "\t")
    corpus = prepare([str(tree)], tmp_path / "corpus", RECIPE, workers=1)
    found = corpus.scans.set_index(["subject", "session"])
    assert found.loc[("1", "a"), "age"] == 30 and found.loc[("1", "b"), "age"] == 32.5
    assert found.loc[["2", "3"], "age"].isna().all()
    assert found["sex"].tolist() == ["F", "F", "M", "M", "", ""]
    told = "age is '999.0', not a number in [0, 120], and is left empty: 2 (3_a, 3_b)"
    assert told in capsys.readouterr().err and told in read_record(tmp_path / "corpus")["facts"]["notes"]["bids:raw"]


def test_a_source_is_identified_by_both_halves_of_a_pair_and_by_all_of_a_folder(tmp_path):
    """Another image behind the same header, or another slice in a DICOM folder, is another source."""
    pair, series = tmp_path / "s1" / "s1_T1w.hdr", tmp_path / "s2"
    for path, size in ((pair, 348), (pair.with_suffix(".img"), 1000), (series / "1.dcm", 10), (series / "2.dcm", 10)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
    cases = [Case(name, (Scan("c", name, "T1w", path),)) for name, path in (("s1", pair), ("s2", series))]
    known = [source_fingerprint(str(tmp_path), cases)]
    for path in (pair.with_suffix(".img"), series / "2.dcm"):
        path.write_bytes(bytes(1004))
        known.append(source_fingerprint(str(tmp_path), cases))
    assert len(set(known)) == 3
