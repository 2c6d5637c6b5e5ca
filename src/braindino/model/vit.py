"""The vision transformer: images in, CLS, storage and patch tokens out. Names of weights as in DINOv3."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from braindino.model.config import ViTConfig
from braindino.model.layers import Block, initialise
from braindino.model.tokens import PatchEmbed, RopeEmbed


class Output(NamedTuple):
    """Tokens of a batch of images after the final norm."""

    cls: Float[Tensor, "batch dim"]
    storage: Float[Tensor, "batch storage dim"]
    patch: Float[Tensor, "batch patch dim"]
    """Row-major over the patch grid."""


class VisionTransformer(nn.Module):
    """A ViT over the sequence [CLS, storage, patches], pre-norm, with RoPE on the patches.

    With `checkpoint_activations` set, training forgets what the blocks computed and computes it again for the gradient.
    It is initialised on construction, from `generator` or from the global state of torch; under
    `torch.device("meta")` it takes no memory.
    """

    def __init__(self, config: ViTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        with torch.device("meta"):
            self.cls_token = nn.Parameter(torch.empty(1, 1, config.dim))
            if config.storage_tokens:
                self.storage_tokens = nn.Parameter(torch.empty(1, config.storage_tokens, config.dim))
            self.mask_token = nn.Parameter(torch.empty(1, config.dim))
            self.patch_embed = PatchEmbed(config)
            self.rope_embed = RopeEmbed(config)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
            self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
            if config.untie_cls_and_patch_norms:
                self.cls_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
            if config.untie_global_and_local_cls_norm:
                self.local_cls_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.to_empty(device=torch.get_default_device())
        initialise(self, generator)

    def reset(self, generator: torch.Generator | None) -> None:
        """Draw CLS and storage tokens from N(0, 0.02); the mask token is 0."""
        nn.init.normal_(self.cls_token, std=0.02, generator=generator)
        if self.config.storage_tokens:
            nn.init.normal_(self.storage_tokens, std=0.02, generator=generator)
        nn.init.zeros_(self.mask_token)

    def forward(
        self,
        images: Float[Tensor, "batch channel height width"],
        patch_mask: Bool[Tensor, "batch patch"] | None = None,
    ) -> Output:
        """Tokens of one batch; patches where `patch_mask` is True are replaced by the mask token.

        Raises:
            ValueError: channels, edges or mask do not fit (see `PatchEmbed`).
        """
        return self.forward_list([images], [patch_mask])[0]

    def forward_list(
        self,
        crops: Sequence[Float[Tensor, "_ channel _ _"]],
        patch_masks: Sequence[Bool[Tensor, "_ _"] | None],
    ) -> list[Output]:
        """Tokens of several batches of different sizes: first the global crops, then the local ones.

        In training, and with `untie_global_and_local_cls_norm`, every batch but the first gets the local
        norm on CLS and storage tokens. For equal results this is `forward` on each batch.
        """
        outputs = []
        for index, (images, patch_mask) in enumerate(zip(crops, patch_masks, strict=True)):
            last = deque(self._states(images, patch_mask), maxlen=1).pop()
            outputs.append(self._normalise(last, local=index > 0 and self.training))
        return outputs

    def cls(
        self,
        images: Float[Tensor, "batch channel height width"],
        kept: Bool[Tensor, " patch"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """CLS tokens alone, in evaluation mode: those of `forward` to rounding, without the rest of the last block.

        Where `kept` is False, a patch of every image takes no part, which is not the same; the positions of the others
        stay theirs.

        Raises:
            ValueError: as `forward`; or in training.
        """
        if self.training:
            raise ValueError("CLS tokens alone are for evaluation; call eval() first")
        x, grid = self._embed(images, None)
        rope = self.rope_embed(grid)
        if kept is not None:
            prefix = torch.arange(self.config.prefix, device=x.device)
            places = torch.cat((prefix, self.config.prefix + torch.nonzero(kept)[:, 0]))
            x, rope = x[:, places], (rope[0][places], rope[1][places])
        for block in self.blocks[:-1]:
            x = block(x, rope)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        norm = self.cls_norm if self.config.untie_cls_and_patch_norms else self.norm
        normalised: Tensor = norm(last.first(x, rope)[:, 0])
        return normalised

    def intermediate(
        self, images: Float[Tensor, "batch channel height width"], blocks: int | Sequence[int] = 1
    ) -> list[Output]:
        """Tokens after the last `blocks` blocks, or after the listed ones, each through the final norm.

        Raises:
            ValueError: a block that does not exist.
        """
        depth = self.config.depth
        wanted = list(range(depth - blocks, depth)) if isinstance(blocks, int) else list(blocks)
        if not wanted or min(wanted) < 0 or max(wanted) >= depth:
            raise ValueError(f"blocks must lie in 0 .. {depth - 1} (or be a number of 1 .. {depth}), got {blocks}")
        states = enumerate(self._states(images, None))
        found = {index: self._normalise(state, local=False) for index, state in states if index in wanted}
        return [found[index] for index in wanted]

    def _states(
        self, images: Float[Tensor, "batch channel height width"], patch_mask: Bool[Tensor, "batch patch"] | None
    ) -> Iterator[Tensor]:
        """The token sequence after each block, not normalised."""
        x, grid = self._embed(images, patch_mask)
        rope = self.rope_embed(grid)
        for number, block in enumerate(self.blocks):
            if number and self.rope_embed.augments:
                rope = self.rope_embed(grid)
            if self.checkpoint_activations and self.training:
                x = checkpoint(block, x, rope, use_reentrant=False)
            else:
                x = block(x, rope)
            yield x

    def _embed(
        self, images: Float[Tensor, "batch channel height width"], patch_mask: Bool[Tensor, "batch patch"] | None
    ) -> tuple[Float[Tensor, "batch token dim"], tuple[int, int]]:
        embedded = self.patch_embed(images)
        batch, rows, columns, _ = embedded.shape
        patches = embedded.flatten(1, 2)
        if patch_mask is not None:
            if patch_mask.shape != patches.shape[:2]:
                raise ValueError(f"patch_mask must be {tuple(patches.shape[:2])}, got {tuple(patch_mask.shape)}")
            patches = torch.where(patch_mask[:, :, None], self.mask_token.to(patches.dtype), patches)
        prefix = [self.cls_token, self.storage_tokens] if self.config.storage_tokens else [self.cls_token]
        tokens = torch.cat([*(token.expand(batch, -1, -1) for token in prefix), patches], dim=1)
        return tokens, (rows, columns)

    def _normalise(self, x: Float[Tensor, "batch token dim"], *, local: bool) -> Output:
        config = self.config
        norm = self.cls_norm if config.untie_cls_and_patch_norms else self.norm
        if local and config.untie_global_and_local_cls_norm:
            norm = self.local_cls_norm
        prefix, patch = norm(x[:, : config.prefix]), self.norm(x[:, config.prefix :])
        return Output(cls=prefix[:, 0], storage=prefix[:, 1:], patch=patch)


def in_bfloat16(model: VisionTransformer) -> VisionTransformer:
    """A copy in evaluation mode whose linear layers hold bfloat16, and with them attention; the rest is shared.

    Residuals, norms, LayerScale, angles of RoPE and the patch embedding stay float32, as under autocast.
    """
    rounded = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    state = {
        name: tensor.bfloat16() if name.rpartition(".")[0] in rounded else tensor
        for name, tensor in model.state_dict().items()
    }
    with torch.device("meta"):
        copy = VisionTransformer(model.config)
    copy.load_state_dict(state, assign=True)
    return copy.eval().requires_grad_(False)
