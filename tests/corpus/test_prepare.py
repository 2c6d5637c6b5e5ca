import fcntl
import hashlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from braindino.corpus import build
from braindino.corpus.shards import open_corpus
from braindino.pipeline.prepare import prepare
from braindino.volume.choose import distinct
from braindino.volume.io import read_volume, write_nifti
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe
from phantom import head

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=8)


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    for number in range(5):
        volume = head(seed=number)
        write_nifti(folder / f"s{number}_T1w.nii.gz", volume.voxels[0], volume.affine)
    return folder


def _hashes(folder):
    names = [*sorted(folder.glob("*.npy")), *sorted(folder.glob("*.tsv"))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def test_slices_read_back_are_those_of_the_recipe(tmp_path, scans):
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    assert len(corpus) == 5 * 8 and len(corpus.slices_of_subject) == 5
    expected = to_slices(preprocess(head(seed=2), RECIPE).voxels)
    rows = np.flatnonzero(corpus.index["subject"] == "s2_T1w")
    assert np.allclose(np.stack([corpus.read(int(n)) for n in rows]), expected, atol=2e-3)  # float16
    assert np.all(np.diff(corpus.index["position_mm"].to_numpy()[rows]) > 0)


def test_a_corpus_holds_the_neighbours_of_a_slice_as_the_recipe_gives_them(tmp_path, scans):
    deep = replace(RECIPE, neighbours=2)
    corpus = prepare([str(scans)], tmp_path / "deep", deep, workers=1)
    flat = prepare([str(scans)], tmp_path / "flat", RECIPE, workers=1)
    expected = to_slices(preprocess(read_volume(scans / "s2_T1w.nii.gz"), deep).voxels).astype(np.float16)
    rows = np.flatnonzero(corpus.index["subject"] == "s2_T1w")
    found = np.stack([corpus.read(int(n)) for n in rows])
    assert found.shape == (8, 5, 48, 48) and np.array_equal(found, expected.astype(np.float32))
    assert np.array_equal(found[:, 2], np.stack([flat.read(int(n))[0] for n in rows]))
    for name in ("subject", "position_mm", "brain_share"):
        assert (corpus.index[name] == flat.index[name]).all()
    names = [hashlib.sha256(view.tobytes()).hexdigest()[:16] for view in expected]
    assert list(corpus.index["slice_hash"][rows]) == names


def test_near_duplicate_slices_are_left_out_where_the_recipe_says_so(tmp_path, scans):
    every = prepare([str(scans)], tmp_path / "every", RECIPE, workers=1)
    corpus = prepare([str(scans)], tmp_path / "distinct", replace(RECIPE, least_change=0.9), workers=1)
    prepared = preprocess(head(seed=2), RECIPE)
    kept = distinct(prepared, replace(RECIPE, least_change=0.9))
    assert 1 < kept.sum() < 8 and len(corpus) < len(every)
    rows = np.flatnonzero(corpus.index["subject"] == "s2_T1w")
    expected = to_slices(prepared.voxels)[kept]
    assert np.allclose(np.stack([corpus.read(int(n)) for n in rows]), expected, atol=2e-3)


def test_quality_stands_in_the_table_of_scans(tmp_path, scans):
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    found = preprocess(head(seed=0), RECIPE).quality.row()
    row = corpus.scans[corpus.scans["subject"] == "s0_T1w"].iloc[0]
    assert {name: row[name] for name in found} == pytest.approx(found, abs=1e-3)


def test_one_bad_scan_is_quarantined_with_its_reason(tmp_path, scans):
    data = (scans / "s1_T1w.nii.gz").read_bytes()
    (scans / "s1_T1w.nii.gz").write_bytes(data[: len(data) // 2])
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=2)
    assert len(corpus.slices_of_subject) == 4
    table = (tmp_path / "corpus" / "quarantine.tsv").read_text()
    assert "s1_T1w" in table and "truncated" in table


def test_all_bad_scans_are_an_error_that_says_why(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "x.nii").write_text("no")
    with pytest.raises(ValueError, match=r"none of the 1 scans could be used.*NIfTI header"):
        prepare([str(tmp_path / "scans")], tmp_path / "corpus", RECIPE, workers=1)
    assert not (tmp_path / "corpus" / "record.json").exists()


class Killed(BaseException):
    pass


def test_killed_at_any_shard_and_resumed_gives_the_same_bytes(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(build, "SCANS_PER_SHARD", 2)
    prepare([str(scans)], tmp_path / "whole", RECIPE, workers=1)
    real = build.write_shard
    for stop in range(3):
        calls = 0

        def interrupted(*arguments, stop=stop):
            nonlocal calls
            calls += 1
            if calls == stop + 1:
                raise Killed
            real(*arguments)

        out = tmp_path / f"killed{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(build, "write_shard", interrupted)
            with pytest.raises(Killed):
                prepare([str(scans)], out, RECIPE, workers=1)
        with pytest.raises(ValueError, match="run 'braindino prepare' to completion"):
            open_corpus(out)
        prepare([str(scans)], out, RECIPE, workers=1)
        assert _hashes(out) == _hashes(tmp_path / "whole")


def test_workers_do_not_change_a_byte(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(build, "SCANS_PER_SHARD", 2)
    for workers in (1, 2):
        prepare([str(scans)], tmp_path / f"w{workers}", RECIPE, workers=workers)
    assert _hashes(tmp_path / "w1") == _hashes(tmp_path / "w2")


def test_a_finished_corpus_is_opened_not_repeated(tmp_path, scans, monkeypatch):
    prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    monkeypatch.setattr("braindino.pipeline.prepare.build_shards", lambda *a: pytest.fail("repeated"))
    prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)


def test_two_recipes_never_mix_in_one_folder(tmp_path, scans):
    prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    with pytest.raises(ValueError, match="another corpus"):
        prepare([str(scans)], tmp_path / "corpus", Recipe(spacing_mm=4.0, size_px=64, slices=8), workers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        prepare([str(scans)], tmp_path / "mine", RECIPE, workers=1)


def test_a_damaged_corpus_is_made_again_not_committed_again(tmp_path, scans):
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    before = _hashes(corpus.folder)
    path = corpus.folder / "shard-00000.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    assert _hashes(corpus.folder) == before


def test_a_shard_that_changed_before_the_resume_is_made_again(tmp_path, scans, monkeypatch):
    prepare([str(scans)], tmp_path / "whole", RECIPE, workers=1)
    out = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr("braindino.pipeline.prepare.merge_parts", lambda *a: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            prepare([str(scans)], out, RECIPE, workers=1)
    data = bytearray((out / "shard-00000.npy").read_bytes())
    data[-5] ^= 1
    (out / "shard-00000.npy").write_bytes(bytes(data))
    prepare([str(scans)], out, RECIPE, workers=1)
    assert _hashes(out) == _hashes(tmp_path / "whole")


def test_two_processes_never_write_to_one_folder(tmp_path, scans):
    out = tmp_path / "corpus"
    out.mkdir()
    descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is writing"):
        prepare([str(scans)], out, RECIPE, workers=1)
    os.close(descriptor)
    assert len(prepare([str(scans)], out, RECIPE, workers=1)) == 40


def test_the_table_of_scans_says_how_each_was_acquired(tmp_path):
    volume = head()
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0]) @ volume.affine
    write_nifti(tmp_path / "scans" / "a_T1w.nii.gz", volume.voxels[0], flipped)
    write_nifti(tmp_path / "scans" / "b_T2w.nii", volume.voxels[0], volume.affine)
    scans = prepare([str(tmp_path / "scans")], tmp_path / "corpus", RECIPE, workers=1).scans.set_index("subject")
    assert list(scans["axes"]) == ["LAS", "RAS"] and list(scans["contrast"]) == ["T1w", "T2w"]
    assert (scans[["spacing_r_mm", "spacing_a_mm", "spacing_s_mm"]] == 4).all(axis=None)
    assert np.allclose(scans["brain_ml"], volume.brain_mask.sum() * 64 / 1000, rtol=0.02)
    assert list(scans["first"]) == [0, 8] and list(scans["slices"]) == [8, 8]
    assert scans["voxel_hash"].nunique() == 2 and scans["voxel_hash"].str.len().eq(16).all()


@pytest.mark.parametrize("source", ["none", "empty", "xyz=empty"])
def test_bad_sources_are_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    name = source.replace("none", str(tmp_path / "none")).replace("empty", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no such file|no \.nii|unknown cohort"):
        prepare([name], tmp_path / "corpus", RECIPE)
    shutil.rmtree(tmp_path / "empty")
