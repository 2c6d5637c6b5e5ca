"""The same training step by others, for `step_rate.py`: a minimal one in plain torch, and lightly-train's DINOv2.

Nothing here imports the project, so that lightly-train can live in an environment of its own. Both take the crops and
patch masks of a file that `step_rate.py` wrote. The minimal one is the floor: no RoPE, no LayerScale, no layer-wise
rates, no schedules, no monitors, no log, no check of the loss.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STORAGE, PATCH = 4, 16
SIDE = 2048
"""Edge of the square matrices whose product gives the machine's rate."""


def load(folder: Path) -> tuple[dict, Tensor, Tensor, Tensor]:
    """The setting (dim, depth, heads, hidden, bottleneck, prototypes), global crops, local crops, patch masks."""
    with np.load(folder / "batch.npz") as file:
        crops = [torch.from_numpy(file[name]) for name in ("global_crops", "local_crops", "patch_masks")]
    return json.loads((folder / "setting.json").read_text()), *crops


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Head(nn.Module):
    def __init__(self, dim: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        layers = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        self.mlp, self.prototypes = nn.Sequential(*layers), nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.prototypes(F.normalize(self.mlp(x), dim=-1))


class Floor(nn.Module):
    """A plain pre-norm transformer with a learned position per patch, and two projection heads."""

    def __init__(self, setting: dict, sides: tuple[int, ...]) -> None:
        super().__init__()
        dim = setting["dim"]
        self.embed, self.norm = nn.Conv2d(1, dim, PATCH, PATCH), nn.LayerNorm(dim)
        self.prefix, self.mask = nn.Parameter(0.02 * torch.randn(1, 1 + STORAGE, dim)), nn.Parameter(torch.zeros(dim))
        self.position = nn.ParameterDict({str(n): 0.02 * torch.randn(1, n * n, dim) for n in sides})
        self.blocks = nn.Sequential(*(Block(dim, setting["heads"]) for _ in range(setting["depth"])))
        sizes = dim, setting["hidden"], setting["bottleneck"], setting["prototypes"]
        self.dino, self.ibot = Head(*sizes), Head(*sizes)

    def tokens(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        if masks is not None:
            patches = torch.where(masks[:, :, None], self.mask, patches)
        patches = patches + self.position[str(images.shape[-1] // PATCH)]
        x = torch.cat([self.prefix.expand(len(images), -1, -1), patches], dim=1)
        return self.norm(self.blocks(x))


def sinkhorn(logits: Tensor, temperature: float) -> Tensor:
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(3):
        q = q / q.sum(dim=0)
        q = q / q.sum(dim=1, keepdim=True)
    return q


def koleo(cls: Tensor) -> Tensor:
    x = F.normalize(cls, dim=-1)
    with torch.no_grad():
        nearest = (x @ x.T).fill_diagonal_(-1).argmax(dim=1)
    return -((x - x[nearest]).norm(dim=-1) + 1e-8).log().mean()


def floor_step(folder: Path) -> Callable[[], float]:
    """One step of the minimal implementation."""
    setting, wide, narrow, masks = load(folder)
    torch.manual_seed(0)
    student = Floor(setting, tuple(crops.shape[-1] // PATCH for crops in (wide, narrow)))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.04)
    samples, prefix = len(wide) // 2, 1 + STORAGE
    pairs = 2 + 2 * (len(narrow) // samples)
    weights = (1 / masks.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(masks)[masks]

    def step() -> float:
        with torch.no_grad():
            seen = teacher.tokens(wide)
            targets = sinkhorn(teacher.dino(seen[:, 0]), 0.07).unflatten(0, (2, samples))
            hidden = sinkhorn(teacher.ibot(seen[:, prefix:][masks]), 0.07)
        ours, local = student.tokens(wide, masks), student.tokens(narrow)
        logits = student.dino(torch.cat([ours[:, 0], local[:, 0]])).unflatten(0, (-1, samples))
        agreement = torch.einsum("snk,tnk->st", F.log_softmax(logits / 0.1, dim=-1), targets) / samples
        loss = -(agreement.sum() - agreement[:2].trace()) / pairs
        log_p = F.log_softmax(student.ibot(ours[:, prefix:][masks]) / 0.1, dim=-1)
        loss = loss - ((hidden * log_p).sum(dim=-1) * weights).sum() / len(wide)
        loss = loss + 0.1 * sum(koleo(cls) for cls in ours[:, 0].chunk(2))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 0.008)
        return float(loss.detach())

    return step


class Trainer:
    """What lightly-train's method asks of its trainer."""

    global_step, estimated_stepping_batches, max_epochs = 20_000, 125_000, 100


def lightly_step(folder: Path) -> Callable[[], float]:
    """One step of lightly-train's DINOv2 method with a head each for DINO and iBOT, Sinkhorn-Knopp, our masks."""
    operators = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):  # torchvision of a CUDA build beside a torch without CUDA
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lightly_train._methods.dinov2 import dinov2
    from lightly_train._models.dinov2_vit.dinov2_vit_src.layers import MemEffAttention
    from lightly_train._models.dinov2_vit.dinov2_vit_src.models import vision_transformer
    from lightly_train._models.embedding_model import EmbeddingModel
    from lightly_train._torch_helpers import update_momentum

    setting, wide, narrow, masks = load(folder)
    torch.manual_seed(0)
    samples = len(wide) // 2
    views = [*wide.split(samples), *narrow.split(samples)]
    network = vision_transformer.DinoVisionTransformer(
        img_size=wide.shape[-1],
        patch_size=PATCH,
        in_chans=1,
        embed_dim=setting["dim"],
        depth=setting["depth"],
        num_heads=setting["heads"],
        init_values=1e-5,
        num_register_tokens=STORAGE,
        block_chunks=0,
        block_fn=lambda **known: vision_transformer.Block(attn_class=MemEffAttention, **known),
    )
    arguments = dinov2.DINOv2Args(
        ibot_separate_head=True,
        hidden_dim=setting["hidden"],
        dino_bottleneck_dim=setting["bottleneck"],
        ibot_bottleneck_dim=setting["bottleneck"],
        output_dim=setting["prototypes"],
        center_method="sinkhorn_knopp",
        weight_decay_start=0.04,
    )
    wrapped = EmbeddingModel(dinov2.DINOv2ViTModelWrapper(network))
    method = dinov2.DINOv2(arguments, dinov2.DINOv2AdamWViTArgs(), wrapped, samples, 1)
    trainer = Trainer()
    method._trainer = trainer
    optimiser = method.configure_optimizers()[0][0]
    collated = {
        "collated_masks": masks,
        "mask_indices_list": masks.flatten().nonzero().flatten(),
        "masks_weight": (1 / masks.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(masks)[masks],
    }
    dinov2.create_collated_masks = lambda **_: collated
    parameters = [p for group in optimiser.param_groups for p in group["params"]]

    def step() -> float:
        result = method.training_step_impl({"views": views}, 0)
        optimiser.zero_grad()
        result.loss.backward()
        nn.utils.clip_grad_norm_(parameters, 3.0)
        method.on_before_optimizer_step(optimiser)
        optimiser.step()
        update_momentum(method.student_embedding_model, method.teacher_embedding_model, m=0.992)
        update_momentum(method.student_head, method.teacher_head, m=0.992)
        return float(result.loss.detach())

    return step


def serve(step: Callable[[], float]) -> None:
    """For every line on stdin one step: print its CPU seconds, those of matrix products around it, and the loss."""
    matrix = torch.randn(SIDE, SIDE)
    for _ in sys.stdin:
        before, start = products(matrix), time.process_time()
        loss = step()
        seconds = time.process_time() - start
        print(json.dumps([seconds, *((before + products(matrix)) / 2).tolist(), loss]), flush=True)


@torch.inference_mode()
def products(matrix: Tensor) -> np.ndarray:
    """CPU seconds of the square of a matrix by torch's BLAS, and by oneDNN."""
    marks = [time.process_time()]
    for square in (torch.matmul, torch.ops.mkldnn._linear_pointwise):
        square(*((matrix, matrix) if square is torch.matmul else (matrix, matrix, None, "none", [], "")))
        marks.append(time.process_time())
    return np.diff(marks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["floor", "lightly"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    serve({"floor": floor_step, "lightly": lightly_step}[options.name](options.folder))
