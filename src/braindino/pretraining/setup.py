"""Networks and optimiser of a run, placed on the device, compiled, shared out among ranks."""

from __future__ import annotations

import copy
import ctypes
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from braindino.model.vit import VisionTransformer
from braindino.pretraining.checkpoint import State
from braindino.pretraining.config import ComputeConfig, PretrainConfig
from braindino.pretraining.groups import parameter_groups
from braindino.pretraining.networks import Network, whole
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.step import Centres


@dataclass(frozen=True)
class Trainee:
    """All networks of a run."""

    state: State
    forward: nn.Module
    """What the student is called by: the student itself, or DDP around it."""
    gram_teacher: VisionTransformer | None


def set_up(
    config: PretrainConfig, start: Network | None, ranks: Ranks, anchor: VisionTransformer | None = None
) -> Trainee:
    """Student and teacher with equal weights, those of `start` or drawn from the seed; the Gram teacher; AdamW.

    The Gram teacher is `anchor`, or a copy of the student's backbone where there is none.
    Every rank draws the same weights. Blocks are first told to checkpoint, then compiled, then sharded. On a CPU the
    process then keeps the memory that a step frees (`_keep_memory`).
    """
    compute = config.compute
    if ranks.device.type == "cpu":
        _keep_memory()
    student = start if start is not None else Network(config, torch.Generator().manual_seed(config.seed))
    teacher = copy.deepcopy(student)
    if config.loss.gram > 0 and anchor is None:
        anchor = copy.deepcopy(student.backbone)
    student.backbone.checkpoint_activations = compute.checkpoint_activations
    _place(student.train(), student.backbone, compute, ranks)
    _place(teacher.eval().requires_grad_(False), teacher.backbone, compute, ranks)
    if anchor is not None:
        _place(anchor.eval().requires_grad_(False), anchor, compute, ranks)
    groups = parameter_groups(
        student,
        config.model.depth,
        layer_decay=config.optim.layer_decay,
        patch_multiplier=config.optim.patch_embed_factor,
    )
    optimiser = torch.optim.AdamW(groups, lr=1.0, betas=config.optim.betas, fused=True)
    centres = None
    if config.loss.centring == "ema":
        sizes = config.dino_head.prototypes, config.ibot_head.prototypes
        centres = Centres(*(torch.zeros(size, device=ranks.device) for size in sizes))
    forward: nn.Module = student
    if ranks.count > 1 and compute.parallel == "ddp":
        forward = nn.parallel.DistributedDataParallel(student)
    changing = anchor if config.loss.gram_refresh else None
    return Trainee(State(student, teacher, optimiser, centres, changing), forward, anchor)


def autocast(compute: ComputeConfig, device: torch.device) -> torch.autocast:
    """bfloat16 products where `precision` is `auto` and the device is a GPU that has them; else float32.

    CPUs without native bfloat16 take ten times longer with it, so they never get it.
    """
    wide = device.type == "cuda" and compute.precision == "auto" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wide)


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """All weights of a network on the CPU; every rank must ask for them where they are sharded."""
    return {name: whole(value).detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _keep_memory() -> None:
    """Tell glibc not to give back what a step frees: every page of it would be asked for again in the next step.

    Other C libraries are left as they are. The numbers are those of malloc.h.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # older versions allow 32 MiB at most


def _place(network: nn.Module, backbone: VisionTransformer, compute: ComputeConfig, ranks: Ranks) -> None:
    """Move to the device, compile the blocks, share out the parameters (FSDP2: by block, then all the rest)."""
    network.to(ranks.device)
    if compute.compile:
        for block in backbone.blocks:
            block.compile()
    if ranks.count > 1 and compute.parallel == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(ranks.device.type, (ranks.count,))
        for part in (*backbone.blocks, network):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # nothing changes them
