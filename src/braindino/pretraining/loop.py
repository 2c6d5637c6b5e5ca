"""The training loop: resumable at any moment, since every step is a function of (state, seed, step)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from braindino.config import to_dict
from braindino.model.vit import VisionTransformer
from braindino.pretraining.batches import Batches
from braindino.pretraining.checkpoint import State, load_checkpoint, save_checkpoint
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.groups import parameter_groups, scaled_rate, set_rates
from braindino.pretraining.monitors import health
from braindino.pretraining.networks import Network, step_loss, update_teacher
from braindino.pretraining.schedules import Schedule
from braindino.record import atomic

MAX_BAD_STEPS = 3
"""A step with a loss that is not finite is skipped; after so many in a row the run stops."""


@dataclass(frozen=True)
class Schedules:
    """The five quantities that change over a run."""

    rate: Schedule
    weight_decay: Schedule
    momentum: Schedule
    temperature: Schedule
    freeze_steps: int


def schedules(config: PretrainConfig) -> Schedules:
    """Schedules of a run, from shares of its steps."""
    steps, optim, teacher = config.steps, config.optim, config.teacher
    peak = scaled_rate(optim.lr, config.batch_size)
    cold, hot = teacher.temperature
    warm = round(teacher.temperature_warmup * steps)
    return Schedules(
        rate=Schedule(0.0, peak, min(optim.end_lr, peak), round(optim.warmup * steps), steps),
        weight_decay=Schedule(optim.weight_decay[0], *optim.weight_decay, warmup=0, total=steps),
        momentum=Schedule(teacher.momentum[0], *teacher.momentum, warmup=0, total=steps),
        temperature=Schedule(cold, hot, hot, warm, steps),
        freeze_steps=round(optim.freeze_last_layer * steps),
    )


def train(
    config: PretrainConfig,
    batches: Batches,
    run: Path,
    start: Network | None,
    device: torch.device,
    report: Callable[..., None],
) -> Network:
    """Train to the last step and return the teacher; resumes from the newest intact checkpoint in `run`.

    Args:
        config: the run.
        batches: gives the batch of any step.
        run: folder for checkpoints and `log.jsonl`.
        start: network that starts student, teacher and Gram teacher; None draws one from the seed.
        device: where to compute.
        report: called with (steps done, note) for the progress bar.

    Raises:
        ValueError: `run` belongs to another config, or the loss was not finite `MAX_BAD_STEPS` times in a row.
    """
    student, teacher = _pair(config, start, device)
    gram_teacher = _frozen_twin(start.backbone, device) if start is not None and config.loss.gram > 0 else None
    groups = parameter_groups(
        student,
        config.model.depth,
        layer_decay=config.optim.layer_decay,
        patch_multiplier=config.optim.patch_embed_factor,
    )
    state = State(student, teacher, torch.optim.AdamW(groups, lr=1.0, betas=config.optim.betas))
    plain = to_dict(config)
    first = load_checkpoint(run, state, plain)
    log, bad = _read_log(run / "log.jsonl", first), 0
    report(first, "")
    plan = schedules(config)
    for step, batch in enumerate(batches(first), start=first):
        torch.manual_seed(_seed(config.seed, step))
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(batch).items()}
        entry = _step(state, gram_teacher, type(batch)(**moved), config, plan, step)
        bad = 0 if entry["finite"] else bad + 1
        if bad >= MAX_BAD_STEPS:
            raise ValueError(f"the loss was not finite at steps {step - bad + 1} to {step}; lower optim.lr")
        log.append(entry)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _write_log(run / "log.jsonl", log)
            save_checkpoint(run, step + 1, state, plain)
        report(1, f"loss {entry['total']:.3f}")
    return teacher


def _step(
    state: State,
    gram_teacher: VisionTransformer | None,
    batch: Any,
    config: PretrainConfig,
    plan: Schedules,
    step: int,
) -> dict[str, Any]:
    """One optimiser update; what the log says of it."""
    rate, momentum = plan.rate.value(step), plan.momentum.value(step)
    set_rates(
        state.optimiser.param_groups,
        rate,
        plan.weight_decay.value(step),
        freeze_last_layer=step < plan.freeze_steps,
    )
    state.optimiser.zero_grad(set_to_none=True)
    loss = step_loss(
        state.student,
        state.teacher,
        gram_teacher,
        batch,
        config.loss,
        teacher_temperature=plan.temperature.value(step),
        student_temperature=config.teacher.student_temperature,
    )
    loss.total.backward()  # type: ignore[no-untyped-call]
    norms = [
        float(torch.nn.utils.clip_grad_norm_(module.parameters(), config.optim.clip))
        for module in state.student.modules_to_clip()
    ]
    finite = all(map(_is_finite, [loss.terms["total"], *norms]))
    if finite:
        state.optimiser.step()
        update_teacher(state.teacher, state.student, momentum)
    entry = {"step": step, "finite": finite, "lr": rate, "momentum": momentum, **loss.terms, "grad_norm": norms[0]}
    return entry | health(loss.targets, loss.cls[: config.batch_size])


def _pair(config: PretrainConfig, start: Network | None, device: torch.device) -> tuple[Network, Network]:
    """Student and teacher with equal weights: those of `start`, or drawn from the seed."""
    student = Network(config, torch.Generator().manual_seed(config.seed)).to(device)
    if start is not None:
        student.load_state_dict(start.state_dict())
    teacher = Network(config).to(device)
    teacher.load_state_dict(student.state_dict())
    return student.train(), teacher.eval().requires_grad_(False)


def _frozen_twin(backbone: VisionTransformer, device: torch.device) -> VisionTransformer:
    twin = VisionTransformer(backbone.config)
    twin.load_state_dict(backbone.state_dict())
    return twin.to(device).eval().requires_grad_(False)


def _seed(seed: int, step: int) -> int:
    """Seed of torch's generator at a step (drop path, RoPE augmentation)."""
    return (seed * 1_000_003 + step * 7919 + 17) % 2**63


def _is_finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _read_log(path: Path, steps: int) -> list[dict[str, Any]]:
    """Log entries before step `steps`; later ones were not covered by the checkpoint and will be made again."""
    if not path.is_file() or not steps:
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if entry["step"] < steps]


def _write_log(path: Path, entries: list[dict[str, Any]]) -> None:
    with atomic(path, "w") as handle:
        handle.writelines(json.dumps(entry) + "\n" for entry in entries)
