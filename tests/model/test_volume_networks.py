"""Our networks of boxes against MONAI's blocks, which the published ones are built of: the same numbers."""

import pytest
import torch
from torch import nn

from braindino.model.resnet3d import ResNet3d
from braindino.model.volume_vit import JointViT, VolumeViT

DIM, HIDDEN, HEADS, DEPTH, PATCH, SIZE = 48, 96, 4, 3, 8, 24
UNUSED = ("norm_cross_attn.weight", "norm_cross_attn.bias")
"""Owned and never used by every block of MONAI 1.4 and later."""


@torch.no_grad()
def randomised(network, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn / tensor.shape[-1] ** 0.5)
    return network.eval()


def agree(ours, theirs):
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1, "nothing to compare"
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def box():
    return torch.randn(2, 2, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_vit_of_brainiac(box):
    from monai.networks.nets import ViT

    ours = randomised(VolumeViT(SIZE, patch=PATCH, dim=DIM, depth=DEPTH, heads=HEADS, hidden=HIDDEN), 1)
    theirs = ViT(1, SIZE, PATCH, DIM, HIDDEN, DEPTH, HEADS, proj_type="conv", pos_embed_type="learnable").eval()
    found = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not found.unexpected_keys and all(key.endswith(UNUSED) for key in found.missing_keys)
    agree(ours(box[:, :1]), theirs(box[:, :1])[0])


@torch.no_grad()
def test_joint_vit_of_bm_mae(box):
    """Its own code is not installed: the same from MONAI's blocks, with a class token and two tokenizers."""
    from monai.networks.blocks import PatchEmbeddingBlock, TransformerBlock

    names = ("flair", "t1")
    ours = randomised(JointViT(names, SIZE, patch=PATCH, dim=DIM, depth=DEPTH, heads=HEADS, hidden=HIDDEN), 2)
    theirs = nn.Module()
    theirs.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
    theirs.tokenizers = nn.ModuleDict({name: nn.Module() for name in names})
    for part in theirs.tokenizers.values():
        part.patch_embedding = PatchEmbeddingBlock(1, SIZE, PATCH, DIM, HEADS, "conv", "learnable")
    theirs.blocks = nn.ModuleList(TransformerBlock(DIM, HIDDEN, HEADS, qkv_bias=True) for _ in range(DEPTH))
    theirs.norm = nn.LayerNorm(DIM)
    found = theirs.eval().load_state_dict(ours.state_dict(), strict=False)
    assert not found.unexpected_keys and all(key.endswith(UNUSED) for key in found.missing_keys)
    tokens = torch.cat(
        [theirs.cls_token.expand(2, -1, -1)]
        + [theirs.tokenizers[name].patch_embedding(box[:, n : n + 1]) for n, name in enumerate(names)],
        dim=1,
    )
    for block in theirs.blocks:
        tokens = block(tokens)
    tokens = theirs.norm(tokens)
    cls, patch = ours(box, names)
    agree(cls, tokens[:, 0])
    agree(patch.flatten(1, 2), tokens[:, 1:])


@torch.no_grad()
def test_resnet_of_brainiac(box):
    from monai.networks.nets import resnet50

    ours = randomised(ResNet3d(width=8), 3)
    theirs = resnet50(
        spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type="B", widen_factor=8 / 64,
        conv1_t_size=7, conv1_t_stride=2,
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    large = box[:, :1].repeat_interleave(3, -1)
    pooled = theirs(large)
    agree(ours(large).mean(1) / pooled.std(), pooled / pooled.std())


@torch.no_grad()
def test_a_joint_view_does_not_depend_on_the_order_of_its_contrasts(box):
    model = randomised(JointViT(("t1", "t2"), SIZE, patch=PATCH, dim=DIM, depth=1, heads=HEADS, hidden=HIDDEN), 4)
    one, _ = model(box, ("t1", "t2"))
    other, _ = model(box.flip(1), ("t2", "t1"))
    assert torch.allclose(one, other, atol=1e-6)
    assert not torch.allclose(one, model(box, ("t2", "t1"))[0], atol=1e-2)
