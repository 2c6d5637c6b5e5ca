"""Who is in it twice: planted copies are found, strangers are not, a leak is refused until it is acknowledged."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.corpus.audit import LeakageError, overlaps, read_crosswalk, refuse_leakage, voxel_hash
from braindino.corpus.thumbnail import THUMBNAIL
from braindino.pipeline.prepare import _audit, prepare
from braindino.record import fingerprint, read_record
from braindino.volume.io import to_ras, write_nifti
from braindino.volume.recipe import Recipe
from faults import Count, attempts
from phantom import head

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=8)


def test_the_voxel_hash_is_of_the_image_not_of_its_axes():
    volume = head(seed=0)
    array, affine = (
        volume.voxels[0][::-1].transpose(2, 0, 1),
        volume.affine @ np.array([[0, -1, 0, 39], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
    )
    image, new, axes = to_ras(np.ascontiguousarray(array), affine)
    assert axes == "SLA" and np.allclose(new, volume.affine)
    assert voxel_hash(replace(volume, voxels=image[None])) == voxel_hash(volume)
    changed = volume.voxels.copy()
    changed[0, 20, 20, 20] += 1
    assert voxel_hash(replace(volume, voxels=changed)) != voxel_hash(volume)


def scans(*rows):
    return pd.DataFrame(rows, columns=["cohort", "subject", "voxel_hash"])


def pictures(*seeds):
    """A thumbnail of its own for every seed; none resembles another one."""
    found = np.zeros((len(seeds), *THUMBNAIL), np.uint8)
    for picture, seed in zip(found, seeds, strict=True):
        noise = np.random.default_rng(seed).normal(size=[n // 3 for n in THUMBNAIL])
        rough = np.kron(noise, np.ones((3, 3, 3)))[3:-3, 3:-3, 3:-3]
        picture[3:-3, 3:-3, 3:-3] = 1 + rough.argsort(axis=None).argsort().reshape(rough.shape) * 255 // rough.size
    return found


def test_each_pair_is_found_once_with_its_strongest_evidence():
    mine = scans(("a", "1", "x"), ("a", "1", "y"), ("b", "7", "y"), ("b", "8", "z"), ("c", "9", "w"))
    found = overlaps(mine, pictures(0, 1, 1, 0, 3), crosswalk=[("c/9", "b/7"), ("c/9", "nobody/0")])
    assert [tuple(row[:4]) for row in found.to_numpy()] == [
        ("a/1", "b/7", "corpus", "same voxels"),
        ("a/1", "b/8", "corpus", "near"),
        ("b/7", "c/9", "corpus", "crosswalk"),
    ]
    assert found["similarity"][1] == pytest.approx(1) and found["similarity"][[0, 2]].isna().all()


def test_between_corpus_and_cohort_the_same_name_counts_too():
    mine, others = scans(("a", "1", "x"), ("a", "2", "y")), scans(("a", "2", "q"), ("t", "5", "x"))
    found = overlaps(mine, pictures(0, 1), others, pictures(2, 3), place="t")
    assert [tuple(row[:4]) for row in found.to_numpy()] == [
        ("a/1", "t/5", "t", "same voxels"),
        ("a/2", "a/2", "t", "same name"),
    ]
    with pytest.raises(LeakageError, match=r"2 subjects.*a/1 = t/5 of t \(same voxels\)"):
        refuse_leakage(found, ())
    with pytest.raises(LeakageError, match="1 subjects"):
        refuse_leakage(found, ["a/2"])
    refuse_leakage(found, ["a/2", "a/1"])
    with pytest.raises(ValueError, match="'a/3', which shares nothing"):
        refuse_leakage(found, ["a/2", "a/1", "a/3"])


def test_what_is_one_person_with_a_third_name_is_one_person():
    mine, others = scans(("a", "1", "x"), ("a", "2", "y")), scans(("t", "5", "z"), ("t", "6", "w"))
    pairs = [("t/5", "else/3"), ("else/4", "else/3"), ("else/4", "a/2"), ("a/1", "else/9")]
    found = overlaps(mine, pictures(0, 1), others, pictures(2, 3), crosswalk=pairs)
    assert [tuple(row[:4]) for row in found.to_numpy()] == [("a/2", "t/5", "corpus", "crosswalk")]


def test_planted_repeats_in_a_thousand_random_manifests_are_all_refused(monkeypatch):
    monkeypatch.setattr("braindino.corpus.audit.near", lambda *a, **k: [])  # pictures have tests of their own
    rng, count = np.random.default_rng(0), Count(11, "corpora with planted people of a test cohort")
    blank = np.zeros((40, *THUMBNAIL), np.uint8)
    for number in attempts(200, 1000):
        names = rng.permutation(60)
        sizes = rng.integers(4, 20, 2)
        mine = [["m", str(name), f"voxels of m{name}"] for name in names[: sizes[0]]]
        tests = [["t", str(name), f"voxels of t{name}"] for name in names[-sizes[1] :]]
        planted, crosswalk = set(), []
        for row in rng.choice(sizes[0], rng.integers(0, 4), replace=False):
            other = tests[rng.integers(sizes[1])]
            kind = rng.choice(["same name", "crosswalk", "same voxels"])
            if kind == "same name":
                tests.append([*mine[row][:2], "voxels of another day"])
            elif kind == "crosswalk":
                pair = "/".join(mine[row][:2]), "/".join(other[:2])
                crosswalk.append(pair if rng.random() < 0.5 else pair[::-1])
            else:
                tests.append(["t", f"copy of {mine[row][1]}", mine[row][2]])
            planted.add(f"m/{mine[row][1]}")
        found = overlaps(
            scans(*mine), blank[: len(mine)], scans(*tests), blank[: len(tests)], place="t", crosswalk=crosswalk
        )
        assert set(found["subject"]) == planted, number
        if planted:
            with pytest.raises(LeakageError, match=f"{len(planted)} subjects"):
                refuse_leakage(found, ())
            count.refused += 1
        refuse_leakage(found, sorted(planted))
    count.done()


@pytest.fixture
def folders(tmp_path):
    """A corpus's source and a test cohort that holds one of its people under another name, and an unreadable file."""
    for number in range(4):
        volume = head(seed=number)
        write_nifti(tmp_path / "source" / f"s{number}_T1w.nii.gz", volume.voxels[0], volume.affine)
    for number in (9, 2):
        volume = head(seed=number)
        write_nifti(tmp_path / "trial" / f"t{number}_T1w.nii", volume.voxels[0], volume.affine)
    (tmp_path / "trial" / "bad_T1w.nii").write_text("no")
    return str(tmp_path / "source"), str(tmp_path / "trial"), tmp_path / "corpus"


def test_prepare_refuses_a_leak_until_it_is_acknowledged_and_builds_only_once(folders, monkeypatch):
    source, trial, out = folders
    with pytest.raises(LeakageError, match=r"source/s2_T1w = trial/t2_T1w of folder:trial \(same voxels\)"):
        prepare([source], out, RECIPE, workers=1, apart_from=[trial])
    assert not (out / "record.json").exists()
    monkeypatch.setattr("braindino.corpus.build._build_shard", lambda *a: pytest.fail("built again"))
    corpus = prepare([source], out, RECIPE, workers=1, apart_from=[trial], acknowledge=["source/s2_T1w"])
    record = read_record(out)
    assert record["config"]["acknowledge"] == ["source/s2_T1w"] and "apart from folder:trial" in record["parents"]
    assert record["facts"]["overlaps"] == 1 and record["facts"]["unread_test_scans"] == 1
    assert fingerprint(record) == corpus.fingerprint
    prepare([source], out, RECIPE, workers=1)  # another audit of the finished corpus builds nothing either
    assert read_record(out)["facts"]["overlaps"] == 0
    np.save(out / "thumbnails.npy", np.zeros((4, 16, 19, 12), np.float16))
    with pytest.raises(ValueError, match="built by another version"):
        _audit(out, {}, (), "builtin", (1, None, None))


def test_copies_within_a_corpus_are_listed(folders):
    source, _, out = folders
    shutil.copy(f"{source}/s1_T1w.nii.gz", f"{source}/copy_T1w.nii.gz")
    table = out.parent / "crosswalk.tsv"
    table.write_text("subject\tother\nsource/s0_T1w\tsource/s3_T1w\n")
    prepare([source], out, RECIPE, workers=1, crosswalk=table)
    lines = (out / "overlaps.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:4] for line in lines] == [
        ["source/copy_T1w", "source/s1_T1w", "corpus", "same voxels"],
        ["source/s0_T1w", "source/s3_T1w", "corpus", "crosswalk"],
    ]


def test_cohorts_say_themselves_who_is_in_another_one(tmp_path):
    """UCSF-PDGM's table names an exam of BraTS 2021; that one is the second id of a patient of BraTS 2021."""
    ucsf, brats = tmp_path / "ucsf", tmp_path / "brats"
    for number, name in enumerate(("0004", "0005")):
        volume = head(seed=number)
        for suffix in ("T1", "FLAIR"):
            image = volume.voxels[0] + (3 if suffix == "FLAIR" else 0)
            write_nifti(ucsf / f"UCSF-PDGM-{name}_nifti" / f"UCSF-PDGM-{name}_{suffix}.nii.gz", image, volume.affine)
    (ucsf / "UCSF-PDGM-metadata_v5.csv").write_text("ID,BraTS21 ID\nUCSF-PDGM-004,BraTS2021_00639\nUCSF-PDGM-005,\n")
    for number, name in enumerate(("00557", "00639", "00001")):
        volume = head(seed=10 + number)
        write_nifti(brats / f"BraTS2021_{name}/BraTS2021_{name}_t1.nii.gz", volume.voxels[0], volume.affine)
    sources, out = [f"ucsf_pdgm={ucsf}"], tmp_path / "corpus"
    with pytest.raises(LeakageError, match="1 subjects of the corpus"):
        prepare(sources, out, RECIPE, workers=1, apart_from=[f"brats2021={brats}"])
    found = pd.read_table(out / "overlaps.tsv")
    assert [tuple(row[:4]) for row in found.to_numpy()] == [
        ("ucsf_pdgm/UCSF-PDGM-0004", "brats2021/BraTS2021_00557", "brats2021", "crosswalk"),
        ("ucsf_pdgm/UCSF-PDGM-0004", "brats2021/BraTS2021_00639", "brats2021", "crosswalk"),
    ]
    both = prepare([*sources, f"brats2021={brats}"], tmp_path / "both", RECIPE, workers=1)
    assert list(both.overlaps["evidence"]) == ["crosswalk"] * 3 and set(both.overlaps["place"]) == {"corpus"}
    (ucsf / "UCSF-PDGM-metadata_v5.csv").write_text("ID,BraTS21 ID\nUCSF-PDGM-004,n/a\nUCSF-PDGM-005,\n")
    prepare([*sources, f"brats2021={brats}"], tmp_path / "both", RECIPE, workers=1)
    assert len(pd.read_table(tmp_path / "both" / "overlaps.tsv")) == 1  # another table, another audit


def test_a_crosswalk_without_its_columns_is_refused(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="columns subject and other"):
        read_crosswalk(tmp_path / "x.tsv")
    (tmp_path / "y.tsv").write_text("subject\tother\na/1\tb/2\na/3\tn/a\n")
    with pytest.raises(ValueError, match="row 2 lacks a name"):
        read_crosswalk(tmp_path / "y.tsv")
