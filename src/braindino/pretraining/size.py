"""How large a run is, by arithmetic alone: parameters, crops and tokens. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindino.model.config import ViTConfig
from braindino.pretraining.config import HeadConfig, PretrainConfig


def block_parameters(model: ViTConfig) -> int:
    """Parameters of one block: two norms, attention, feed-forward, LayerScale."""
    dim, hidden = model.dim, model.hidden
    attention = 3 * dim * dim + 3 * dim * model.qkv_bias + dim * dim + dim
    feed_forward = 2 * dim * hidden + hidden + dim
    if model.ffn != "mlp":
        feed_forward = 3 * dim * hidden + 2 * hidden + dim
    return 4 * dim + attention + feed_forward + 2 * dim * (model.layer_scale is not None)


def backbone_parameters(model: ViTConfig) -> int:
    """Parameters of the vision transformer: patch embedding, tokens, blocks, final norms."""
    dim = model.dim
    embedding = dim * model.in_channels * model.patch_size**2 + dim + (2 + model.storage_tokens) * dim
    norms = 1 + model.untie_cls_and_patch_norms + model.untie_global_and_local_cls_norm
    return embedding + model.depth * block_parameters(model) + norms * 2 * dim


def head_parameters(dim: int, head: HeadConfig) -> int:
    """Parameters of a projection head: three linear layers with bias, prototypes without."""
    first, second = dim * head.hidden + head.hidden, head.hidden**2 + head.hidden
    return first + second + head.hidden * head.bottleneck + head.bottleneck + head.bottleneck * head.prototypes


def parameters(config: PretrainConfig) -> dict[str, int]:
    """Parameters of the student by module; the teacher has as many, the Gram teacher those of the backbone."""
    dim = config.model.dim
    return {
        "backbone": backbone_parameters(config.model),
        "DINO head": head_parameters(dim, config.dino_head),
        "iBOT head": head_parameters(dim, config.ibot_head),
    }


@dataclass(frozen=True)
class Crop:
    """Crops of one kind in a step, all of one size."""

    images: int
    side: int
    """Pixels."""
    patches: int
    """Per crop."""
    tokens: int
    """Per crop: patches, CLS and storage tokens."""


@dataclass(frozen=True)
class Work:
    """What goes through the networks for some slices at one size of crops."""

    slices: int
    student: tuple[Crop, ...]
    """Global, and where there are any local crops."""
    teacher: Crop
    gram: Crop | None
    masked: int
    """Hidden patches of all global crops."""

    @property
    def cls_rows(self) -> int:
        """CLS tokens through the student's DINO head."""
        return sum(crop.images for crop in self.student)


def work(config: PretrainConfig, slices: int, size: tuple[int, int, int, float]) -> Work:
    """Crops of `slices` slices at a row of `crops.shares`: two global, `local_count` local, two Gram crops each."""
    global_px, local_px, gram_px, _ = size
    seen = _crop(config.model, 2 * slices, global_px)
    local = _crop(config.model, config.crops.local_count * slices, local_px)
    gram = _crop(config.model, 2 * slices, gram_px or global_px) if config.loss.gram > 0 else None
    return Work(slices, (seen, local) if local.images else (seen,), seen, gram, masked_patches(config, seen))


def masked_patches(config: PretrainConfig, crop: Crop) -> int:
    """Hidden patches of a batch of global crops, exactly as `masks.sample_masks` hides them."""
    low, high = config.loss.mask_ratio
    shares = np.linspace(low, high, int(crop.images * config.loss.mask_probability) + 1)[1:]
    return int(sum(int(crop.patches * share) for share in shares))


def _crop(model: ViTConfig, images: int, side: int) -> Crop:
    patches = (side // model.patch_size) ** 2
    return Crop(images, side, patches, patches + model.prefix)


def check_passes(config: PretrainConfig, samples: int, ranks: int) -> None:
    """Require that what is no mean over slices sees in a pass what it sees in the whole batch.

    KoLeo's groups lie within a rank's samples of a pass, or are made of those of whole ranks. SIGReg compares the
    distribution of all slices with a normal one, so all of them go through in one pass.

    Raises:
        ValueError: it does not.
    """
    if config.loss.sigreg > 0 and samples * ranks < config.batch_size:
        raise ValueError(
            f"loss.sigreg looks at all {config.batch_size} slices of a step at once, but a pass holds {samples} on "
            f"each of {ranks} processes; use more processes or a smaller batch_size, or loss.koleo in its place"
        )
    group = config.loss.koleo_group or config.batch_size
    fits = samples % group == 0 or (group % samples == 0 and samples * ranks % group == 0)
    if config.loss.koleo > 0 and not fits:
        raise ValueError(
            f"loss.koleo looks for neighbours among {group} slices, but a pass holds {samples} on each of "
            f"{ranks} processes; set loss.koleo_group or compute.micro_batch so that one divides the other"
        )
