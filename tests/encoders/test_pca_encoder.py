"""PCA: fitted on the subjects that the run has trained on and on nobody else."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from braindino import catalog
from braindino.corpus.audit import name_digest
from braindino.corpus.shards import open_corpus
from braindino.encoders import pca
from braindino.model.config import ViTConfig
from braindino.pipeline.prepare import prepare
from braindino.pipeline.pretrain import pretrain
from braindino.pretraining.config import CropConfig, HeadConfig, PretrainConfig
from braindino.stats.representation import knn_classify
from braindino.volume.io import write_nifti
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe
from phantom import head

SUBJECTS = 6
RECIPE = Recipe(spacing_mm=4.0, size_px=64, slices=10)


def kind_of(number):
    """Every second head is brighter behind."""
    volume = head(seed=number)
    turned = volume.voxels[:, :, ::-1] if number % 2 else volume.voxels
    return replace(volume, voxels=np.ascontiguousarray(turned))


def corpus_of(folder, seeds):
    for name, seed in enumerate(seeds):
        volume = kind_of(seed)
        write_nifti(folder / "scans" / f"sub{name}_T1w.nii", volume.voxels[0], volume.affine)
    return prepare([str(folder / "scans")], folder / "corpus", RECIPE, workers=1)


def run_of(corpus, out, exclude=()):
    small = HeadConfig(hidden=16, bottleneck=8, prototypes=16)
    config = PretrainConfig(
        corpus=corpus.folder,
        steps=1,
        batch_size=4,
        exclude=exclude,
        model=ViTConfig(dim=16, depth=1, heads=1, patch_size=8),
        crops=CropConfig(global_px=16, local_px=8, local_count=1),
        dino_head=small,
        ibot_head=small,
    )
    return pretrain(config, out).parent


def load(weights, **given):
    return catalog.load("encoders", "pca").load(weights, **given)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpus_of(tmp_path_factory.mktemp("pca"), range(SUBJECTS))


@pytest.fixture(scope="module")
def run(corpus):
    return run_of(corpus, corpus.folder.parent / "run", exclude=(last(corpus),))


def last(corpus):
    return sorted(set(corpus.names))[-1]


def test_components_by_hand(corpus, run):
    """Means over 2 x 2 pixels; eigenvectors of their covariance."""
    encoder = load(run)
    allowed = [n for name, numbers in corpus.slices_of_subject.items() if name != last(corpus) for n in numbers]
    pictures = np.stack([corpus.read(int(n))[0] for n in allowed])
    small = pictures.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(len(allowed), -1)
    assert encoder.dim == len(allowed) - 1 == 49
    assert np.allclose(encoder.mean, small.mean(axis=0), atol=1e-5)
    variance, vectors = np.linalg.eigh(np.cov(small.T))
    assert np.allclose(np.abs((encoder.components[:5] * vectors[:, :-6:-1].T).sum(axis=1)), 1, atol=1e-4)
    projected = (small - small.mean(axis=0)) @ encoder.components.T
    assert np.allclose(projected.var(axis=0, ddof=1)[:5], variance[:-6:-1], rtol=1e-3)


def test_a_view_per_slice_and_contrast(run, volume):
    encoder = load(run)
    both = replace(volume, voxels=np.stack([volume.voxels[0], -volume.voxels[0]]), contrasts=("T1w", "T2w"))
    got = encoder.tokens(both)
    assert got.cls.shape == (20, 49) and got.contrasts == ("T1w",) * 10 + ("T2w",) * 10 and got.patch is None
    assert np.all(np.diff(got.position_mm[:10]) > 0) and np.array_equal(got.position_mm[:10], got.position_mm[10:])
    slices = to_slices(preprocess(both, RECIPE).voxels)[:, 1]
    small = slices.reshape(10, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(10, -1)
    assert np.allclose(got.cls[10:], (small - encoder.mean) @ encoder.components.T, atol=1e-3)
    assert len(encoder.tokens(volume, every_slice=True).cls) > 20 and encoder.recipe == RECIPE


def test_who_was_kept_out_has_no_part_in_it(tmp_path, corpus, run):
    """Another head in the place of the excluded subject changes nothing, in that of a training subject everything."""
    seeds = list(range(SUBJECTS))
    other = corpus_of(tmp_path / "excluded", [*seeds[:-1], 40])
    assert other.fingerprint != corpus.fingerprint
    assert load(run_of(other, tmp_path / "run", exclude=(last(other),))).digest() == load(run).digest()
    changed = corpus_of(tmp_path / "trained", [40, *seeds[1:]])
    assert load(run_of(changed, tmp_path / "changed", exclude=(last(changed),))).digest() != load(run).digest()


def test_it_tells_whom_it_was_fitted_on(corpus, run, monkeypatch):
    """So that a task which reports on them is refused, as for our own encoder; nobody else is named."""
    fitted = sorted(set(corpus.names) - {last(corpus)})
    assert load(run).seen == {name_digest(name) for name in fitted}
    monkeypatch.setattr(pca, "SLICES", 3)
    assert len(load(run).seen) == 3 and load(run).seen < {name_digest(name) for name in fitted}


def test_slices_are_drawn_in_rounds_of_one_per_subject(corpus, monkeypatch):
    names = sorted(set(corpus.names))
    monkeypatch.setattr(pca, "SLICES", 8)
    drawn = pca.drawn_slices(corpus, {names[0], names[1]}, seed=0)
    owner = np.array(names)[drawn // 10]
    assert len(set(drawn)) == 8 and set(owner[:4]) == set(owner[4:]) == set(names[2:])
    assert np.array_equal(drawn, pca.drawn_slices(corpus, {names[0], names[1]}, seed=0))
    assert not np.array_equal(drawn, pca.drawn_slices(corpus, {names[0], names[1]}, seed=1))
    with pytest.raises(ValueError, match="has 0 slices of subjects that the run has trained on"):
        pca.drawn_slices(corpus, names, seed=0)


def test_unseen_heads_of_two_kinds_are_told_apart(run):
    encoder = load(run)
    views = np.stack([encoder.tokens(kind_of(n)).cls.mean(axis=0) for n in range(100, 112)])
    kinds = np.arange(100, 112) % 2
    said = knn_classify(views[:6], kinds[:6], views[6:], 3)
    assert np.mean(said == kinds[6:]) == 1.0


def test_a_corpus_that_moved_with_its_run_is_found(tmp_path):
    own = run_of(corpus_of(tmp_path / "here", [1, 2]), tmp_path / "here" / "run")
    digest = load(own).digest()
    (tmp_path / "here").rename(tmp_path / "there")
    assert load(tmp_path / "there" / "run").digest() == digest


def test_what_cannot_be_fitted_is_refused(tmp_path, corpus, run):
    for weights in (None, run / "encoder.safetensors"):
        with pytest.raises(ValueError, match="pca needs --weights: the folder of a finished pretraining run"):
            load(weights)
    with pytest.raises(ValueError, match=r"unknown variant 'paper' of pca"):
        load(run, variant="paper")
    with pytest.raises(ValueError, match="made by 'braindino prepare'"):
        load(corpus.folder)
    moved = corpus_of(tmp_path, [1, 2])
    own = run_of(moved, tmp_path / "run")
    shutil.move(moved.folder, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"corpus of the run .*, on which pca is fitted, is neither .* nor .*bring it"):
        load(own)
    shutil.copytree(corpus.folder, moved.folder)
    with pytest.raises(ValueError, match="is another corpus than that of the run"):
        load(own)
    assert len(open_corpus(tmp_path / "elsewhere")) == 20
