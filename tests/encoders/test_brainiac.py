"""BrainIAC: both generations told apart and loaded strictly, tokens by hand, the line from scans to features."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import volume_layouts as layouts
from braindino import catalog
from braindino.cli import main
from braindino.model.volume_vit import VolumeViT
from braindino.pipeline.encode import encode, read_features
from braindino.types import Case, Encoder, Scan
from braindino.volume.box import to_box
from braindino.volume.io import write_nifti
from phantom import head

PLUGIN = catalog.load("encoders", "brainiac")


def load(path, variant=""):
    return PLUGIN.load(path, variant=variant)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """As the pretraining writes it: a Lightning checkpoint with a projection head."""
    state = {f"backbone.{key}": value for key, value in layouts.weights(layouts.brainiac_v2()).items()}
    state["projection_head.0.weight"] = torch.zeros(8, 8)
    path = tmp_path_factory.mktemp("brainiac") / "BrainIAC.ckpt"
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 1e-4}}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    state = {f"module.{key}": value for key, value in layouts.weights(layouts.brainiac_v1()).items()}
    path = tmp_path_factory.mktemp("brainiac_v1") / "BrainIAC.ckpt"
    torch.save({"state_dict": state}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def encoder(second):
    return load(second)


@pytest.fixture(scope="module")
def shallow(encoder):
    """With its first block alone, for what does not depend on the depth."""
    model = VolumeViT(depth=1).eval().requires_grad_(False)
    state = encoder.model.state_dict()
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    return replace(encoder, model=model)


@pytest.fixture(scope="module")
def volume():
    scan = head()
    return replace(scan, voxels=np.concatenate([scan.voxels, 300 - scan.voxels]), contrasts=("T1w", "FLAIR"))


def test_second_generation_is_told_by_its_keys(encoder):
    assert isinstance(encoder, Encoder) and encoder.name == "brainiac" and encoder.dim == 768
    assert encoder.report.dialect == "BrainIAC v2" and encoder.report.prefix == "state_dict.backbone."
    assert encoder.report.count("taken") == 137
    assert "research only" in encoder.licence and "32,015" in encoder.domain


def test_its_feature_is_token_0_or_the_mean(shallow, volume):
    encoder = shallow
    tokens = encoder.tokens(volume, patches=True)
    assert tokens.cls.shape == (2, 768) and tokens.patch.shape == (2, 216, 768) and tokens.grid == (6, 6, 6)
    assert tokens.contrasts == ("T1w", "FLAIR") and tokens.position_mm.tolist() == [0, 0] and tokens.storage is None
    box = to_box(volume, encoder.recipe)
    assert box.voxels.shape == (2, 96, 96, 96) and np.allclose(box.spacing_mm, np.array([197, 233, 189]) / 96)
    with torch.inference_mode():
        by_hand = encoder.model(torch.from_numpy(box.voxels[1:, None])).numpy()
    assert np.allclose(tokens.patch[1], by_hand[0], atol=1e-5)
    assert np.array_equal(tokens.cls, tokens.patch[:, 0])
    mean = replace(encoder, pool="mean").tokens(volume)
    assert np.allclose(mean.cls, tokens.patch.mean(1), atol=1e-6) and mean.patch is None
    assert not np.allclose(mean.cls[0], mean.cls[1], atol=1e-2)


def test_variants_of_the_second_generation(second, encoder):
    mean, paper = load(second, "mean"), load(second, "paper")
    assert (encoder.variant, mean.variant, paper.variant) == ("first", "mean", "paper")
    assert (encoder.pool, mean.pool, paper.pool) == ("first", "mean", "first")
    assert encoder.recipe == mean.recipe != paper.recipe
    assert (paper.recipe.orientation, paper.recipe.intensity, paper.recipe.spacing_mm) == ("SRA", "paper", None)
    assert encoder.digest() == mean.digest() == paper.digest()
    with pytest.raises(ValueError, match="unknown variant 'frist' of brainiac; did you mean 'first'"):
        load(second, "frist")


def test_first_generation_and_its_one_feature(first, volume):
    encoder = load(first)
    assert encoder.report.dialect == "BrainIAC v1" and encoder.report.count("taken") == 322
    assert encoder.dim == 2048 and encoder.licence == "CC BY-NC 4.0" and load(first, "mean").pool == "mean"
    small = replace(encoder, recipe=replace(encoder.recipe, size=(64, 64, 64)))
    tokens = small.tokens(volume, patches=True)
    assert tokens.patch.shape == (2, 8, 2048) and tokens.grid == (2, 2, 2)
    assert np.allclose(tokens.cls, tokens.patch.mean(1), atol=1e-5)
    assert encoder.recipe.intensity == "min_max" and encoder.recipe.size == (128, 128, 128)
    for variant in ("first", "paper"):
        with pytest.raises(ValueError, match=f"first generation of BrainIAC .*no variant {variant!r}"):
            load(first, variant)


def test_bad_weights_are_refused_with_what_to_do(tmp_path, second):
    with pytest.raises(ValueError, match=r"brainiac needs --weights: BrainIAC.ckpt"):
        load(None)
    torch.save({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"holds no BrainIAC weights: neither .*got cls_token"):
        load(tmp_path / "other.pth")
    torch.save({"patch_embedding.position_embeddings": torch.zeros(1, 216, 768)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"(?s)part.pth does not fit:\nBrainIAC v2 weights.*and 116 more problems"):
        load(tmp_path / "part.pth")
    (tmp_path / "cut.ckpt").write_bytes(second.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cut\.ckpt is damaged"):
        load(tmp_path / "cut.ckpt")


def test_scans_to_features_by_the_command_and_a_bad_scan_keeps_its_row(tmp_path, second, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        write_nifti(tmp_path / "scans" / f"{name}_T1w.nii.gz", head(seed=seed).voxels[0], head().affine)
    (tmp_path / "scans" / "c_T1w.nii.gz").write_bytes(b"no image")
    out = tmp_path / "features"
    words = ["encode", str(tmp_path / "scans"), "--encoder", "brainiac", "--weights", str(second), "--out", str(out)]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 1 and "failed: c_T1w" in capsys.readouterr().err
    features = read_features(out)
    assert features.values.shape == (3, 1, 768) and features.encoder == "brainiac" and features.contrasts == ("T1w",)
    assert list(features.cases["status"].eq("ok")) == [True, True, False]
    assert features.recipe == PLUGIN.RECIPE.hash() and np.isfinite(features.values[:2]).all()
    assert not np.allclose(features.values[0], features.values[1], atol=1e-2)


def test_mean_of_patches_is_the_variant_mean(tmp_path, shallow):
    path = tmp_path / "a_T1w.nii.gz"
    write_nifti(path, head().voxels[0], head().affine)
    case = Case("a", (Scan("x", "a", "T1w", path),))
    pooled = encode([case], shallow, pooling="mean_patch")
    assert np.allclose(pooled.values[0], encode([case], replace(shallow, pool="mean")).values[0], atol=2e-3)
