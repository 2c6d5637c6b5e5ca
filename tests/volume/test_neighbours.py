"""2.5-D: neighbouring slices as channels, from the recipe to the encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino.model.config import ViTConfig
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Limits, Recipe

FLAT = Recipe(spacing_mm=4.0, size_px=48, slices=12, limits=Limits(most_edge_share=1.0))
DEEP = replace(FLAT, neighbours=1)


def encoder(recipe, channels):
    config = ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=0.1, in_channels=channels)
    return SliceEncoder("tiny", VisionTransformer(config, torch.Generator().manual_seed(3)), recipe)


def test_the_middle_channel_is_the_slice_and_the_others_lie_one_spacing_away(volume):
    flat, deep = preprocess(volume, FLAT), preprocess(volume, DEEP)
    assert deep.voxels.shape == (3, 48, 48, 12) and deep.contrasts == ("T1w",)
    assert np.array_equal(deep.voxels[1], flat.voxels[0])
    assert np.array_equal(deep.brain_mask, flat.brain_mask) and np.array_equal(deep.affine, flat.affine)
    whole = replace(volume, brain_mask=np.ones_like(volume.brain_mask))  # slices on every plane of the image
    every = replace(DEEP, slices=36, margin=0.0, brain_ml=(1.0, 1e5))
    below, middle, above = preprocess(whole, every).voxels
    assert np.allclose(below[..., 1:], middle[..., :-1], atol=1e-5)
    assert np.allclose(above[..., :-1], middle[..., 1:], atol=1e-5)
    assert np.allclose(below[..., 0], DEEP.background, atol=1e-5)  # outside the field of view


def test_contrasts_stay_apart(volume):
    two = replace(volume, voxels=np.concatenate([volume.voxels, volume.voxels[:, ::-1]]), contrasts=("T1w", "FLAIR"))
    deep, flat = preprocess(two, DEEP), preprocess(two, FLAT)
    assert to_slices(deep.voxels).shape == (12, 6, 48, 48)
    assert np.array_equal(deep.voxels[1::3], flat.voxels)


def test_an_encoder_sees_the_neighbours_as_channels(volume):
    two = replace(volume, voxels=np.concatenate([volume.voxels, volume.voxels[:, ::-1]]), contrasts=("T1w", "FLAIR"))
    deep = encoder(DEEP, 3)
    tokens = deep.tokens(two)
    assert tokens.cls.shape == (24, 32) and tokens.contrasts == ("T1w",) * 12 + ("FLAIR",) * 12
    channels = to_slices(preprocess(two, DEEP).voxels)
    for view, stack in ((5, channels[5, :3]), (17, channels[5, 3:])):
        with torch.inference_mode():
            alone = deep.model(torch.from_numpy(stack[None].copy())).cls.numpy()[0]
        assert np.allclose(tokens.cls[view], alone, atol=1e-5)
    assert not np.allclose(tokens.cls[5], encoder(replace(DEEP, spacing_mm=5.0), 3).tokens(two).cls[5], atol=1e-3)


def test_recipe_and_model_must_agree():
    with pytest.raises(ValueError, match=r"in_channels is 1, but recipe\.neighbours 1 gives 3"):
        encoder(DEEP, 1)
