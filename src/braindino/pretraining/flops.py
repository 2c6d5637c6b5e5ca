"""Floating-point operations of a step, by arithmetic alone. No torch.

A product of (m, k) and (k, n) counts 2 m k n, as in torch.utils.flop_counter; what is not a matrix product counts 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from braindino.model.config import ViTConfig
from braindino.pretraining.config import HeadConfig, PretrainConfig
from braindino.pretraining.size import Crop, Work

ATTENTION_BACKWARD = 2.5
"""A fused attention kernel makes 2 products forward and 5 backward: it computes the scores again."""


@dataclass(frozen=True)
class Part:
    """FLOPs of one part of a step."""

    name: str
    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


def step_flops(config: PretrainConfig, work: Work, *, checkpointing: bool = False) -> tuple[Part, ...]:
    """FLOPs of one step over `work`, by part.

    With N tokens per crop, width D, hidden width H, B crops that a block computes (drop path skips the others), K
    prototypes, h and b hidden width and bottleneck of a head:

    - linear layers of a block: 2 B N (4 D^2 + 2 D H), SwiGLU 2 B N (4 D^2 + 3 D H); twice that backward;
    - attention: 4 B N^2 D; 2.5 times that backward (a fused kernel);
    - patch embedding: 2 B patches p^2 channels D; once more backward (images need no gradient);
    - a head on R tokens: 2 R (D h + h^2 + h b + b K); twice that backward;
    - Gram loss: 2 B patches^2 D for student and Gram teacher each; 2 products backward, for the student;
    - the other losses: 2 t R K per crop t that the teacher saw (DINO), forward and backward; KoLeo 4 B^2 D.

    With `checkpointing` the student's blocks run forward a second time.
    """
    model, student = config.model, work.student
    rate = model.drop_path
    linear = sum(_linear(model, crop, rate) for crop in student)
    attention = sum(_attention(model, crop, rate) for crop in student)
    embedding = sum(_embedding(model, crop) for crop in student)
    heads = _head(model.dim, config.dino_head, work.cls_rows) + _head(model.dim, config.ibot_head, work.masked)
    taught = _head(model.dim, config.dino_head, work.teacher.images)
    taught += _head(model.dim, config.ibot_head, work.masked)
    parts = [
        Part("student, linear layers", linear + embedding, 2 * linear + embedding),
        Part("student, attention", attention, ATTENTION_BACKWARD * attention),
        Part("student, heads", heads, 2 * heads),
        Part("teacher, backbone", _backbone(model, work.teacher), 0),
        Part("teacher, heads", taught, 0),
        Part("losses", *_losses(config, work)),
    ]
    if work.gram is not None:
        parts.append(Part("Gram teacher", _backbone(model, work.gram), 0))
    if checkpointing:
        parts.append(Part("blocks computed again", 0, linear + attention))
    return tuple(parts)


def kept(images: int, drop_path: float) -> int:
    """Crops that a branch of a block computes, as in `layers.add_residual`."""
    return images if drop_path == 0 else max(int(images * (1 - drop_path)), 1)


def _linear(model: ViTConfig, crop: Crop, drop_path: float) -> float:
    matrices = 2 if model.ffn == "mlp" else 3
    weights = 4 * model.dim**2 + matrices * model.dim * model.hidden
    return 2.0 * model.depth * kept(crop.images, drop_path) * crop.tokens * weights


def _attention(model: ViTConfig, crop: Crop, drop_path: float) -> float:
    return 4.0 * model.depth * kept(crop.images, drop_path) * crop.tokens**2 * model.dim


def _embedding(model: ViTConfig, crop: Crop) -> float:
    return 2.0 * crop.images * crop.patches * model.patch_size**2 * model.in_channels * model.dim


def _backbone(model: ViTConfig, crop: Crop) -> float:
    return _linear(model, crop, 0) + _attention(model, crop, 0) + _embedding(model, crop)


def _head(dim: int, head: HeadConfig, rows: int) -> float:
    weights = dim * head.hidden + head.hidden**2 + head.hidden * head.bottleneck + head.bottleneck * head.prototypes
    return 2.0 * rows * weights


def _losses(config: PretrainConfig, work: Work) -> tuple[float, float]:
    seen, dim = work.teacher, config.model.dim
    dino = 2.0 * 2 * work.cls_rows * config.dino_head.prototypes
    koleo = 2.0 * 2 * work.slices**2 * dim if config.loss.koleo > 0 else 0.0
    gram = 2.0 * seen.images * seen.patches**2 * dim if work.gram is not None else 0.0
    return dino + koleo + 2 * gram, dino + 2 * gram
