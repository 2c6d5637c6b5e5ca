"""BM-MAE: strict loading with any number of tokenizers, one view of whatever contrasts there are, its variants."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import volume_layouts as layouts
from braindino import catalog
from braindino.model.volume_vit import JointViT
from braindino.pipeline.encode import encode, read_features, write_features
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.similarity import write_similarity
from braindino.types import Encoder
from braindino.volume.box import to_box
from phantom import head

PLUGIN = catalog.load("encoders", "bm_mae")


def load(path, variant=""):
    return PLUGIN.load(path, variant=variant)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """As released: a flat state dict, with its decoder."""
    state = layouts.weights(layouts.bm_mae())
    state |= {"decoder.mask_token": torch.zeros(1, 1, 384), "decoder.norm.weight": torch.zeros(384)}
    path = tmp_path_factory.mktemp("bm_mae") / "bmmae.pth"
    torch.save(state, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def encoder(weights):
    return load(weights)


@pytest.fixture(scope="module")
def shallow(encoder):
    """With its first block alone, for what does not depend on the depth."""
    model = JointViT(tuple(PLUGIN.TOKENIZERS.values()), depth=1).eval().requires_grad_(False)
    state = encoder.model.state_dict()
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    return replace(encoder, model=model)


@pytest.fixture(scope="module")
def volume():
    scan = head()
    two = np.concatenate([scan.voxels, np.where(scan.brain_mask, 300 - scan.voxels, 0)])
    return replace(scan, voxels=two, contrasts=("T1w", "FLAIR"))


def test_all_keys_are_used_and_the_decoder_is_left_out_by_name(encoder):
    assert isinstance(encoder, Encoder) and (encoder.name, encoder.dim) == ("bm_mae", 768)
    assert encoder.report.count("taken") == 159 and encoder.report.count("ignored") == 2
    assert "2: the decoder, used in pretraining only" in encoder.report.short()
    assert encoder.licence == "CC BY-NC 4.0" and "adult glioma" in encoder.domain


def test_a_subset_of_contrasts_is_one_view(shallow, volume):
    encoder = shallow
    tokens = encoder.tokens(volume, patches=True)
    assert tokens.contrasts == ("T1w+FLAIR",) and tokens.position_mm.tolist() == [0]
    assert tokens.cls.shape == (1, 768) and tokens.patch.shape == (1, 512, 768) and tokens.grid == (8, 8, 8)
    box = to_box(volume, encoder.recipe)
    with torch.inference_mode():
        cls, patch = encoder.model(torch.from_numpy(box.voxels[None]), ["t1", "flair"])
    assert np.allclose(tokens.cls, cls.numpy(), atol=1e-5)
    assert np.allclose(tokens.patch, patch.mean(1).numpy(), atol=1e-5)
    alone = encoder.tokens(replace(volume, voxels=volume.voxels[:1], contrasts=("T1w",)))
    assert alone.contrasts == ("T1w",) and not np.allclose(alone.cls, tokens.cls, atol=1e-2)
    assert np.linalg.det(box.affine[:3, :3]) > 0 and box.affine[0, 0] < 0 and box.affine[1, 1] < 0, "LPS"


def test_published_is_the_middle_of_the_array_and_brain_centred_that_of_the_brain(weights, encoder):
    assert encoder.recipe == PLUGIN.RECIPE and encoder.joint
    scan = head()
    moved = replace(
        scan,
        voxels=np.pad(scan.voxels, ((0, 0), (0, 0), (0, 0), (10, 0))),
        brain_mask=np.pad(scan.brain_mask, ((0, 0), (0, 0), (10, 0))),
    )
    centred = load(weights, "brain_centred")
    assert np.allclose(to_box(moved, centred.recipe).voxels, to_box(scan, centred.recipe).voxels, atol=1e-4)
    assert not np.allclose(to_box(moved, encoder.recipe).voxels, to_box(scan, encoder.recipe).voxels, atol=1.0)


def test_paper_sends_each_contrast_through_the_tokens_of_t1(weights, shallow, volume):
    paper = replace(load(weights, "paper"), model=shallow.model)
    assert paper.variant == "paper" and shallow.variant == "published"
    tokens = paper.tokens(volume, patches=True)
    assert tokens.contrasts == ("T1w", "FLAIR") and tokens.cls.shape == (2, 768) and tokens.patch.shape == (2, 512, 768)
    box = to_box(volume, paper.recipe)
    with torch.inference_mode():
        cls, _ = paper.model(torch.from_numpy(box.voxels[1:][None]), ["t1"])
    assert np.allclose(tokens.cls[1:], cls.numpy(), atol=1e-5)
    other = paper.tokens(replace(volume, contrasts=("T1w", "PDw")))
    assert np.array_equal(other.cls, tokens.cls) and other.contrasts == ("T1w", "PDw")


def test_contrasts_that_it_cannot_see_are_refused(encoder, volume):
    with pytest.raises(ValueError, match="know T1w, T1ce, T2w, FLAIR, got 'PDw'; choose with --contrasts"):
        encoder.tokens(replace(volume, contrasts=("T1w", "PDw")))
    with pytest.raises(ValueError, match="each contrast once, got T1w twice"):
        encoder.tokens(replace(volume, contrasts=("T1w", "T1w")))


def test_fewer_tokenizers_and_what_is_refused(tmp_path, volume):
    two = layouts.weights(layouts.bm_mae(("t2", "flair")))
    torch.save({"state_dict": {f"module.{key}": value for key, value in two.items()}}, tmp_path / "two.pth")
    encoder = load(tmp_path / "two.pth")
    assert encoder.report.count("taken") == 153 and encoder.report.prefix == "state_dict.module."
    with pytest.raises(ValueError, match="these bm_mae weights know T2w, FLAIR, got 'T1w'"):
        encoder.tokens(volume)
    with pytest.raises(ValueError, match="no tokenizer of t1, which the variant 'paper'"):
        load(tmp_path / "two.pth", "paper")
    two["tokenizers.swi.patch_embedding.position_embeddings"] = torch.zeros(1, 512, 768)
    two["cls_tokens"] = two.pop("cls_token")
    torch.save(two, tmp_path / "odd.pth")
    with pytest.raises(
        ValueError, match=r"(?s)missing: cls_token.*unexpected: tokenizers\.swi.*unexpected: cls_tokens"
    ):
        load(tmp_path / "odd.pth")
    torch.save({"cls_token": torch.zeros(1, 1, 768)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"no BM-MAE weights: no tokenizers\.t1 or other tokenizer; got cls_token"):
        load(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="bm_mae needs --weights"):
        load(None)
    with pytest.raises(ValueError, match="unknown variant 'publish' of bm_mae; did you mean 'published'"):
        load(tmp_path / "two.pth", "publish")


def test_what_works_on_slices_refuses_boxes(tmp_path, cohort, shallow):
    task = load_task("tumour_segmentation", cohort, "synthetic")
    with pytest.raises(ValueError, match="encoder 'bm_mae' takes whole volumes; this head learns on the patches"):
        fit(task, shallow, "decoder")
    with pytest.raises(ValueError, match="encoder 'other' takes whole volumes; patch similarity is drawn on slices"):
        write_similarity({"other": shallow}, task.cases[0], tmp_path)


def test_cases_of_a_cohort_to_features(tmp_path, cohort, encoder):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)[:2]
    features = encode(cases, encoder, ("FLAIR", "T1w"))
    assert features.values.shape == (2, 1, 768) and features.contrasts == ("FLAIR+T1w",)
    assert list(features.cases["status"]) == ["ok", "ok"]
    write_features(features, tmp_path / "f")
    assert read_features(tmp_path / "f").contrasts == ("FLAIR+T1w",)


def test_a_case_that_lacks_a_contrast_has_its_joint_view_all_the_same(cohort, encoder):
    whole, other = catalog.load("cohorts", "synthetic").cases(cohort)[:2]
    lacking = replace(other, scans=tuple(scan for scan in other.scans if scan.contrast != "FLAIR"))
    features = encode([whole, lacking], encoder, ("FLAIR", "T1w"), any_contrast=True)
    assert features.contrasts == ("FLAIR+T1w",) and list(features.cases["missing"].fillna("")) == ["", "FLAIR"]
    alone = encode([other], encoder, ("T1w",))
    assert np.array_equal(features.values[1], alone.values[0])
