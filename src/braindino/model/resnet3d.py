"""The 3-D ResNet-50 of BrainIAC's first generation, by MONAI's names; shortcuts are convolutions with a bias."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

DEPTHS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """ReLU(BN conv 1^3 (ReLU BN conv 3^3 (ReLU BN conv 1^3 x)) + shortcut x); the stride is that of the 3^3."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * width
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, stride=stride), nn.BatchNorm3d(after))

    def forward(self, x: Float[Tensor, "view channel x y z"]) -> Float[Tensor, "view after a b c"]:
        """One residual step."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class ResNet3d(nn.Module):
    """Convolution 7^3 of stride 2, max pooling, four stages of bottlenecks; the last map has 1/32 of each side."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        before = width
        for stage, depth in enumerate(DEPTHS):
            inner = width * 2**stage
            blocks = [Bottleneck(before, inner, 1 if stage == 0 else 2)]
            before = EXPANSION * inner
            blocks += [Bottleneck(before, inner, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Float[Tensor, "view 1 x y z"]) -> Float[Tensor, "view patch dim"]:
        """Places of the last map, row-major; their mean is the network's feature (global average pooling)."""
        out = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in range(len(DEPTHS)):
            out = getattr(self, f"layer{stage + 1}")(out)
        return out.flatten(2).transpose(1, 2)
