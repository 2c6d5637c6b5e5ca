"""BrainMVP: the network against its table worked by hand, its file key by key, a view per contrast."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import uniformer_layout as layout
from braindino import catalog
from braindino.encoders.brainmvp import RECIPES
from braindino.model.uniformer import UniFormer
from braindino.volume.box import to_box


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As its trainer saves it."""
    path = tmp_path_factory.mktemp("brainmvp") / "BrainMVP_uniformer.pt"
    state = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}
    trainer = {"optimizer": state, "scheduler": {"last_epoch": 3}, "current_epoch": 3, "val_best": 0.1}
    torch.save({"state_dict": layout.whole(), **trainer}, path)
    return path


@pytest.fixture(scope="module")
def encoder(file):
    return load(file)


def load(path, variant=""):
    return catalog.load("encoders", "brainmvp").load(path, variant=variant)


def test_size_is_the_published_one():
    with torch.device("meta"):
        model = UniFormer()
    assert sum(p.numel() for p in model.parameters()) == 22_038_464
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == layout.shapes()
    assert len(layout.shapes()) == 329 and len(layout.whole()) == 352


@pytest.mark.parametrize("sides", [(48, 16, 32), (16, 16, 16)])
def test_the_map_is_that_of_the_table_and_lies_along_x_y_z(encoder, sides):
    x = torch.randn(2, 1, *sides, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, z_first = encoder.model(x), layout.forward(layout.encoder(), x)
    x_first = np.moveaxis(z_first.numpy(), 2, 4)  # channel, x, y, z
    assert x_first.shape == (2, 512, *(side // 16 for side in sides))
    expected = [[x_first[n, :, i, j, k] for i, j, k in np.ndindex(x_first.shape[2:])] for n in range(2)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert got.std() > 0.1


def test_z_comes_first_within(encoder):
    """A single bright voxel, at (x, y, z), meets entry (z, x, y) of a kernel of the first convolution."""
    seen = []
    handle = encoder.model.patch_embed1.proj.register_forward_hook(lambda *given: seen.append(given[2]))
    box = torch.zeros(1, 1, 16, 32, 48)
    box[0, 0, 3, 8, 20] = 1.0
    with torch.inference_mode():
        encoder.model(box)
    handle.remove()
    first = encoder.model.patch_embed1.proj
    assert seen[0].shape == (1, 64, 24, 8, 16)
    torch.testing.assert_close(seen[0][0, :, 10, 1, 4], first.weight[:, 0, 0, 1, 0] + first.bias)
    assert torch.equal(seen[0][0, :, 1, 4, 10], first.bias)


def test_sides_must_be_multiples_of_16(encoder):
    with pytest.raises(ValueError, match=r"multiples of 16, got \(16, 24, 16\)"):
        encoder.model(torch.zeros(1, 1, 16, 24, 16))


@pytest.mark.parametrize("form", ["state_dict", "module", "encoder.uniformer", "bare"])
def test_whatever_stands_before_the_keys_the_weights_are_the_same(tmp_path, encoder, form):
    whole, bare = layout.whole(), layout.encoder()
    content = {
        "state_dict": {"state_dict": {key.removeprefix("module."): value for key, value in whole.items()}},
        "module": whole,
        "encoder.uniformer": {f"encoder.uniformer.{key}": value for key, value in bare.items()},
        "bare": bare,
    }[form]
    torch.save(content, tmp_path / "weights.pt")
    assert load(tmp_path / "weights.pt").digest() == encoder.digest()


def test_every_key_is_accounted_for(encoder):
    report = encoder.report
    assert report.count("taken") == 329 and not report.problems
    ignored = {line.key for line in report.lines if line.status == "ignored"}
    assert len(ignored) == 23 + 5 and encoder.licence and encoder.domain and "state_dict.module.rep_template" in ignored


FIRST = "module.encoder.uniformer.patch_embed1.proj.weight"
KEY = "module.encoder.uniformer.blocks3.7.attn.qkv.bias"


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda s: {KEY + "es": s.pop(KEY)},
            r"(?s)missing: blocks3.*unexpected: blocks3.7.attn.qkv.biases",
        ),
        (lambda s: s.pop(KEY) is None or {}, r"missing: blocks3.7.attn.qkv.bias \(\(960,\)\)"),
        (lambda s: {KEY: torch.ones(961)}, r"wrong shape: blocks3.7.attn.qkv.bias \(\(961,\), expected \(960,\)\)"),
        (lambda s: {KEY: torch.full((960,), float("nan"))}, "NaN or infinite"),
        (lambda s: s.pop(FIRST) is None or {}, "holds no BrainMVP weights: no patch_embed1"),
        (lambda s: {"module.head.weight": torch.ones(3)}, "unexpected: module.head.weight"),
        (lambda s: {KEY.removeprefix("module."): s[KEY]}, "unexpected: encoder.uniformer.blocks3.7.attn.qkv.bias"),
    ],
    ids=["renamed", "missing", "reshaped", "not finite", "another network", "unknown", "twice"],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, said):
    state = layout.whole()
    state |= change(state)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "weights.pt")


def test_no_weights_and_unknown_variants_are_refused(file):
    with pytest.raises(ValueError, match=r"needs --weights"):
        load(None)
    with pytest.raises(ValueError, match=r"unknown variant 'papr'.*did you mean 'paper'"):
        load(file, "papr")


@pytest.mark.parametrize("variant", ["published", "paper"])
def test_a_view_is_the_mean_of_the_map_of_one_contrast(encoder, volume, variant):
    smaller = {"published": {"spacing_mm": 4.0}, "paper": {"size": (16, 32, 48)}}[variant]
    recipe = replace(RECIPES[variant], **smaller)
    encoder = replace(encoder, recipe=recipe)
    dark = np.where(volume.brain_mask, 220 - volume.voxels[0], 0).astype(np.float32)
    both = replace(volume, voxels=np.stack([volume.voxels[0], dark]), contrasts=("T1w", "T2w"))
    got = encoder.tokens(both, patches=True)
    box = torch.from_numpy(to_box(both, recipe).voxels)[:, None]
    with torch.inference_mode():
        expected = layout.forward(layout.encoder(), box).mean(dim=(2, 3, 4))
    assert got.cls.shape == (2, 512) and got.contrasts == ("T1w", "T2w")
    np.testing.assert_allclose(got.cls, expected, rtol=1e-4, atol=1e-4)
    assert got.grid == tuple(side // 16 for side in box.shape[2:]) and got.patch.shape == (2, np.prod(got.grid), 512)
    assert not np.allclose(got.cls[0], got.cls[1], atol=1e-2)
    alone = encoder.tokens(replace(volume, voxels=volume.voxels[:1]))
    assert np.array_equal(alone.cls[0], got.cls[0]) and alone.patch is None


def test_recipes_are_those_of_their_sources(encoder, file):
    assert encoder.recipe == RECIPES["published"] and load(file, "paper").recipe == RECIPES["paper"]
    assert encoder.variant == "published" and load(file, "paper").variant == "paper"
    published, paper = RECIPES["published"], RECIPES["paper"]
    assert (published.orientation, published.spacing_mm, published.intensity) == ("RAS", 1.0, "percentile")
    assert (published.extent, published.size, published.size_rule) == ("foreground", (16, 16, 16), "multiple")
    assert (paper.size, paper.size_rule, paper.intensity) == ((128, 224, 224), "resize", "paper")
