import hashlib
import shutil

import numpy as np
import pytest

from braindino.corpus import build
from braindino.corpus.shards import open_corpus
from braindino.pipeline.prepare import prepare
from braindino.volume.io import write_nifti
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
    names = [*sorted(folder.glob("shard-*.npy")), folder / "index.tsv", folder / "quarantine.tsv"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def test_slices_read_back_are_those_of_the_recipe(tmp_path, scans):
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    assert len(corpus) == 5 * 8 and len(corpus.slices_of_subject) == 5
    expected = to_slices(preprocess(head(seed=2), RECIPE).voxels)[:, 0]
    rows = np.flatnonzero(corpus.index["subject"] == "s2_T1w")
    assert np.allclose(np.stack([corpus.read(int(n)) for n in rows]), expected, atol=2e-3)  # float16
    assert np.all(np.diff(corpus.index["position_mm"].to_numpy()[rows]) > 0)


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


def test_a_changed_shard_is_refused(tmp_path, scans):
    corpus = prepare([str(scans)], tmp_path / "corpus", RECIPE, workers=1)
    path = corpus.folder / "shard-00000.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="differs from its record"):
        open_corpus(corpus.folder)


@pytest.mark.parametrize("source", ["none", "empty", "xyz=empty"])
def test_bad_sources_are_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    name = source.replace("none", str(tmp_path / "none")).replace("empty", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no such file|no \.nii|unknown cohort"):
        prepare([name], tmp_path / "corpus", RECIPE)
    shutil.rmtree(tmp_path / "empty")
