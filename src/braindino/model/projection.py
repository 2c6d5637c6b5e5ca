"""The projection head on CLS or patch tokens: an MLP to a unit sphere, and prototypes on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from braindino.model.layers import initialise


class ProjectionHead(nn.Module):
    """Three linear layers with GELU between, L2 normalisation, then a linear layer without bias.

    z = W3 GELU(W2 GELU(W1 x)), logits = P z / |z| with P (num_prototypes, bottleneck). The rows of P are not
    normalised, as in DINOv3. DINO and iBOT have a head each.
    """

    def __init__(
        self, dim: int, hidden: int, bottleneck: int, num_prototypes: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.mlp = nn.Sequential(
                nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
            )
            self.last_layer = nn.Linear(bottleneck, num_prototypes, bias=False)
        self.to_empty(device=torch.get_default_device())
        initialise(self, generator)

    def forward(self, tokens: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch prototype"]:
        """Prototype logits of each token."""
        logits: Tensor = self.last_layer(self.project(tokens))
        return logits

    def project(self, tokens: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch bottleneck"]:
        """Unit vectors before the prototypes."""
        return F.normalize(self.mlp(tokens), dim=-1, eps=1e-12)
