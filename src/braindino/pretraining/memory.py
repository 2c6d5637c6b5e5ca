"""Bytes of a run on one rank, by arithmetic alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from braindino.model.config import ViTConfig
from braindino.pretraining.config import HeadConfig, PretrainConfig
from braindino.pretraining.flops import kept
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.size import Crop, Work, block_parameters, parameters

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank: what is always there, what the forward pass keeps, and the sums by phase of a step."""

    state: dict[str, float]
    """Parameters, gradients, AdamW, teacher, Gram teacher, gathered parts."""
    kept: dict[str, float]
    """Saved for the backward pass, and the targets."""
    phases: dict[str, float]
    """By phase of the step: everything that is there then."""

    @property
    def peak(self) -> float:
        """The largest of the phases."""
        return max(self.phases.values())


def rank_memory(config: PretrainConfig, hardware: Hardware, micro: Work, whole: Work) -> Memory:
    """Memory of a rank whose student sees `micro` at once and whose targets are balanced over `whole`.

    Phases, of which the largest is the peak:

    - targets: state + targets + the teacher's forward pass or the rounds of Sinkhorn-Knopp;
    - loss: state + kept + logits + output tokens + the largest temporary of the losses, or the Gram teacher's pass;
    - backward: state + kept, but for heads and losses, which are done + the gradients of one block, and with
      checkpointing what that block keeps;
    - update: state, with all gradients; AdamW is fused and needs nothing more.

    Gradients are there during the first three only with accumulation or several ranks (buckets).
    """
    count, width, dim = sum(parameters(config).values()), _width(hardware), config.model.dim
    state, saved = _state(config, hardware, count), saved_bytes(config, hardware, micro)
    saved["targets"] = FLOAT * sum(_logits(config, 2 * whole.slices, whole.masked))
    accumulates = hardware.gpus > 1 or micro.slices < whole.slices
    held = sum(state.values()) - (0 if accumulates else state["gradients"])
    ours = _logits(config, micro.cls_rows, micro.masked)
    outputs = FLOAT * dim * sum(crop.images * crop.tokens for crop in micro.student)
    anchoring = 0.0 if micro.gram is None else forward_bytes(config.model, hardware, micro.gram)
    rounds = (FLOAT + width) * max(_logits(config, 2 * whole.slices, whole.masked))
    teaching = forward_bytes(config.model, hardware, micro.teacher)
    everything = sum(saved.values())
    freed = sum(saved.get(name, 0.0) for name in ("heads", "log-probabilities", "Gram loss"))
    widest = max(_backward_bytes(config.model, hardware, crop) for crop in micro.student)
    phases = {
        "targets": held + saved["targets"] + max(teaching, rounds),
        "loss": held + everything + width * sum(ours) + outputs + max(2 * FLOAT * max(ours), anchoring),
        "backward": held + everything - freed + widest,
        "update": sum(state.values()),
    }
    return Memory(state, saved, phases)


def saved_bytes(config: PretrainConfig, hardware: Hardware, micro: Work) -> dict[str, float]:
    """What autograd keeps of the student's forward pass over `micro`, without parameters and targets.

    Per token and block, in bytes, with w = 2 (bf16) or 4 (fp32), width D, hidden width H, h heads:

    - 4 D twice (inputs of the norms) + w D twice (their outputs, inputs of the linear layers) + 16 (statistics);
    - 3 w D (queries, keys, values) + 2 w D (rotated) + w D (output of attention) + 4 h (log-sum-exp);
    - 2 w D (inputs of LayerScale, where there is one); 2 w H (around GELU; SwiGLU: 4 w H);
    - 8 D with drop path, whose index_add keeps its source; 2 D for SwiGLU under bf16, whose input is cast twice.

    In sum for H = 4 D without drop path: 80 D in fp32, 44 D in bf16. Drop path counts the crops that a branch computes.
    With checkpointing a block keeps 4 D per token. Under bf16 autocast also a copy of the linear weights.
    """
    model, width = config.model, _width(hardware)
    blocks = sum(_blocks(model, hardware, crop) for crop in micro.student)
    ends = 0.0
    for crop in micro.student:
        pixels = crop.images * crop.side**2 * model.in_channels * width
        ends += pixels + crop.images * crop.tokens * (FLOAT * model.dim + 8)
    heads = _head(model.dim, config.dino_head, micro.cls_rows, hardware)
    heads += _head(model.dim, config.ibot_head, micro.masked, hardware)
    losses = float(FLOAT * sum(_logits(config, micro.cls_rows, micro.masked)))
    found = {"blocks": blocks, "embedding and norms": ends, "heads": heads, "log-probabilities": losses}
    if micro.gram is not None:
        seen = micro.teacher
        found["Gram loss"] = 2.0 * FLOAT * seen.images * seen.patches * (model.dim + seen.patches)
    if hardware.precision == "bf16" and hardware.shards == 1:
        found["bf16 copies of weights"] = 2.0 * _matrices(config)
    return found


def forward_bytes(model: ViTConfig, hardware: Hardware, crop: Crop) -> float:
    """Working memory of a forward pass without gradient: the tokens and the widest moment of one block.

    In attention: residual 4 D, norm w D, qkv 3 w D, rotated queries and keys 2 w D, then the output w D, or under bf16
    before it the keys and their rotation in fp32, 8 D. In the feed-forward: residual 4 D, norm w D, 2 w H (SwiGLU
    3 w H).
    """
    width, dim = _width(hardware), model.dim
    attending = (FLOAT + 6 * width + (width if width == FLOAT else 2 * FLOAT)) * dim
    feeding = (FLOAT + width) * dim + (2 if model.ffn == "mlp" else 3) * width * model.hidden
    return float(crop.images * crop.tokens * max(attending, feeding))


def _state(config: PretrainConfig, hardware: Hardware, count: int) -> dict[str, float]:
    """Parameters, gradients and two moments in fp32, the teachers, and under FSDP the two largest parts gathered."""
    shards = hardware.shards
    by_part = parameters(config)
    state = {
        "parameters": FLOAT * count / shards,
        "gradients": FLOAT * count / shards,
        "AdamW": 2 * FLOAT * count / shards,
        "teacher": FLOAT * count / shards,
        "Gram teacher": FLOAT * by_part["backbone"] / shards if config.loss.gram > 0 else 0.0,
    }
    if shards > 1:
        unit = max(block_parameters(config.model), by_part["DINO head"], by_part["iBOT head"])
        state["gathered parts"] = float((2 * _width(hardware) + FLOAT) * unit)
    return state


def _logits(config: PretrainConfig, cls_rows: int, patch_rows: int) -> tuple[int, int]:
    """Numbers that the DINO and the iBOT head give out."""
    return cls_rows * config.dino_head.prototypes, patch_rows * config.ibot_head.prototypes


def _blocks(model: ViTConfig, hardware: Hardware, crop: Crop) -> float:
    """What all blocks keep of the crops of one kind."""
    if hardware.checkpointing:
        tables = 2 * FLOAT * crop.tokens * model.head_dim
        return float(model.depth * (crop.images * crop.tokens * FLOAT * model.dim + tables))
    return model.depth * _block(model, hardware, crop)


def _block(model: ViTConfig, hardware: Hardware, crop: Crop) -> float:
    """What one block keeps for its backward pass: by token, and the two tables of RoPE."""
    rows = kept(crop.images, model.drop_path) * crop.tokens
    return float(rows * _token_bytes(model, hardware) + 2 * FLOAT * crop.tokens * model.head_dim)


def _token_bytes(model: ViTConfig, hardware: Hardware) -> int:
    width, dim = _width(hardware), model.dim
    scales = 2 * width * dim if model.layer_scale is not None else 0
    hidden = (2 if model.ffn == "mlp" else 4) * width * model.hidden
    dropped = 2 * FLOAT * dim if model.drop_path > 0 else 0
    cast = width * dim if model.ffn != "mlp" and width < FLOAT else 0
    common = 2 * (FLOAT + width) * dim + 16 + 6 * width * dim + FLOAT * model.heads
    return common + scales + hidden + dropped + cast


def _head(dim: int, head: HeadConfig, rows: int, hardware: Hardware) -> float:
    """Input, two hidden layers before and after GELU, the bottleneck before and after it is made a unit vector."""
    width = _width(hardware)
    unit = FLOAT * head.bottleneck * head.prototypes if head.unit_prototypes else 0
    return float(rows * (width * dim + 4 * width * head.hidden + 2 * width * head.bottleneck) + unit)


def _backward_bytes(model: ViTConfig, hardware: Hardware, crop: Crop) -> float:
    """Gradients of the residual, of a branch and of both sides of GELU; with checkpointing also the block itself."""
    width = _width(hardware)
    gradients = crop.images * crop.tokens * ((2 * FLOAT + width) * model.dim + 2 * width * model.hidden)
    return float(gradients + (_block(model, hardware, crop) if hardware.checkpointing else 0))


def _matrices(config: PretrainConfig) -> int:
    """Weights of linear layers of the student, which autocast copies once per pass."""
    model, total = config.model, 0
    total += model.depth * (4 * model.dim**2 + (2 if model.ffn == "mlp" else 3) * model.dim * model.hidden)
    for head in (config.dino_head, config.ibot_head):
        total += model.dim * head.hidden + head.hidden**2 + head.hidden * head.bottleneck
        total += head.bottleneck * head.prototypes
    return total + model.dim * model.in_channels * model.patch_size**2


def _width(hardware: Hardware) -> int:
    """Bytes of a number inside a linear layer."""
    return 2 if hardware.precision == "bf16" else FLOAT
