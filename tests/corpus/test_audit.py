"""Who is in it twice: planted copies are found, strangers are not, a leak is refused until it is acknowledged."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.corpus.audit import NEAR, LeakageError, overlaps, read_crosswalk, refuse_leakage, thumbnail, voxel_hash
from braindino.pipeline.prepare import prepare
from braindino.record import fingerprint, read_record
from braindino.volume.io import to_ras, write_nifti
from braindino.volume.recipe import Recipe
from phantom import head

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=8)


def person(seed):
    """A phantom with large-scale anatomy of its own, so that thumbnails of two of them differ."""
    volume = head(seed=seed)
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.voxels.shape[1:]], indexing="ij")
    waves = sum(rng.normal() * np.sin(4 * rng.normal(size=3) @ [axis.ravel() for axis in grid]) for _ in range(6))
    image = volume.voxels[0] + 15 * waves.reshape(grid[0].shape).astype(np.float32) * volume.brain_mask
    return replace(volume, voxels=image[None])


def similarity(one, two):
    return float(thumbnail(one).ravel().astype(float) @ thumbnail(two).ravel().astype(float))


def test_the_voxel_hash_is_of_the_image_not_of_its_axes():
    volume = person(0)
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


def test_disguised_copies_resemble_and_strangers_do_not():
    volume = person(0)
    mask = volume.brain_mask
    lowest = int(np.flatnonzero(mask.any(axis=(0, 1)))[0])
    copies = {
        "rescaled": replace(volume, voxels=np.sqrt(volume.voxels + 100)),
        "cropped": replace(volume, voxels=volume.voxels[..., lowest + 3 :], brain_mask=mask[..., lowest + 3 :]),
        "padded": replace(
            volume, voxels=np.pad(volume.voxels, ((0, 0), *[(3, 5)] * 3)), brain_mask=np.pad(mask, [(3, 5)] * 3)
        ),
        "coarser": replace(
            volume,
            voxels=volume.voxels[:, ::2, ::2, ::2],
            brain_mask=mask[::2, ::2, ::2],
            affine=volume.affine @ np.diag([2, 2, 2, 1]),
        ),
    }
    for name, copy in copies.items():
        assert similarity(volume, copy) >= NEAR, name
    assert max(similarity(volume, person(seed)) for seed in range(1, 12)) < NEAR


def scans(*rows):
    return pd.DataFrame(rows, columns=["cohort", "subject", "voxel_hash"])


def unit(*values):
    array = np.zeros((len(values), 2, 1, 1), np.float16)
    array[:, 0, 0, 0], array[:, 1, 0, 0] = np.cos(values), np.sin(values)
    return array


def test_each_pair_is_found_once_with_its_strongest_evidence():
    mine = scans(("a", "1", "x"), ("a", "1", "y"), ("b", "7", "y"), ("b", "8", "z"), ("c", "9", "w"))
    pictures = unit(0.0, 1.5, 1.5, 0.1, 3.0)
    found = overlaps(mine, pictures, crosswalk=[("c/9", "b/7"), ("c/9", "nobody/0")])
    assert [tuple(row[:4]) for row in found.to_numpy()] == [
        ("a/1", "b/7", "corpus", "same voxels"),
        ("a/1", "b/8", "corpus", "near"),
        ("b/7", "c/9", "corpus", "crosswalk"),
    ]
    assert found["similarity"][1] == pytest.approx(np.cos(0.1), abs=2e-3)


def test_between_corpus_and_cohort_the_same_name_counts_too():
    mine, others = scans(("a", "1", "x"), ("a", "2", "y")), scans(("a", "2", "q"), ("t", "5", "x"))
    found = overlaps(mine, unit(0.0, 1.0), others, unit(2.0, 3.0), place="t")
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


@pytest.fixture
def folders(tmp_path):
    """A corpus's source and a test cohort that holds one of its people under another name, and an unreadable file."""
    for number in range(4):
        volume = person(number)
        write_nifti(tmp_path / "source" / f"s{number}_T1w.nii.gz", volume.voxels[0], volume.affine)
    for number in (9, 2):
        volume = person(number)
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


def test_a_crosswalk_without_its_columns_is_refused(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="columns subject and other"):
        read_crosswalk(tmp_path / "x.tsv")
