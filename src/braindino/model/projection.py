"""The projection head on CLS or patch tokens: an MLP to a unit sphere, and prototypes on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from braindino.model.layers import initialise
from braindino.model.linear import Linear, linear


class ProjectionHead(nn.Module):
    """Three linear layers with GELU between, L2 normalisation, then a linear layer without bias.

    z = W3 GELU(W2 GELU(W1 x)), logits = P z / |z| with P (num_prototypes, bottleneck). The rows of P are not
    normalised, as in DINOv3, or with `unit_prototypes` divided by their length, as in DINO (arXiv 2104.14294): logits
    are then cosines, and targets are sharp from the first step. DINO and iBOT have a head each.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        bottleneck: int,
        num_prototypes: int,
        generator: torch.Generator | None = None,
        *,
        unit_prototypes: bool = False,
    ) -> None:
        super().__init__()
        self.unit_prototypes = unit_prototypes
        with torch.device("meta"):
            self.mlp = nn.Sequential(
                Linear(dim, hidden), nn.GELU(), Linear(hidden, hidden), nn.GELU(), Linear(hidden, bottleneck)
            )
            self.last_layer = Linear(bottleneck, num_prototypes, bias=False)
        self.to_empty(device=torch.get_default_device())
        initialise(self, generator)

    def forward(self, tokens: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch prototype"]:
        """Prototype logits of each token."""
        return self.logits(self.mlp(tokens))

    def logits(self, bottleneck: Float[Tensor, "*batch bottleneck"]) -> Float[Tensor, "*batch prototype"]:
        """Prototype logits of what `mlp` made of the tokens."""
        prototypes = self.last_layer.weight
        if self.unit_prototypes:
            prototypes = F.normalize(prototypes, dim=-1)
        return linear(F.normalize(bottleneck, dim=-1, eps=1e-12), prototypes)
