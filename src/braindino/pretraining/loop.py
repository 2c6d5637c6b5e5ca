"""The training loop: resumable at any moment, since every step is a function of (state, seed, step)."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from braindino.config import to_dict
from braindino.corpus.shards import Corpus
from braindino.model.vit import VisionTransformer
from braindino.pretraining.batches import Batches
from braindino.pretraining.checkpoint import load_checkpoint, save_checkpoint
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.events import events
from braindino.pretraining.groups import set_rates
from braindino.pretraining.initial import initial_fingerprint
from braindino.pretraining.log import read_log, write_log
from braindino.pretraining.monitors import Look, health, look
from braindino.pretraining.networks import Batch, Network, update_teacher, whole
from braindino.pretraining.probe import Probe, probe_of
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.schedules import Schedules, schedules_of
from braindino.pretraining.setup import Trainee, autocast, set_up, whole_state
from braindino.pretraining.size import check_passes
from braindino.pretraining.step import Targets, Temperatures, student_loss, teacher_targets
from braindino.pretraining.watch import alarms, live_line
from braindino.progress import note

MAX_BAD_STEPS = 3
"""A step with a loss that is not finite is skipped; after so many in a row the run stops."""
TERMINATED = 143
"""Exit code after SIGTERM, as shells and SLURM know it."""


def train(
    config: PretrainConfig,
    batches: Batches,
    run: Path,
    start: Network | None,
    ranks: Ranks,
    report: Callable[..., None],
    anchor: VisionTransformer | None = None,
) -> dict[str, torch.Tensor]:
    """Train to the last step and return the teacher's weights; resumes from the newest intact checkpoint in `run`.

    After SIGTERM, on any rank, the step is finished, a checkpoint is written, and the process exits with `TERMINATED`.

    Args:
        config: the run.
        batches: gives this rank's batches of any step.
        run: folder for checkpoints and `log.jsonl`.
        start: network that starts student, teacher and, without `anchor`, Gram teacher; None draws it from the seed.
        ranks: this process among those of the run.
        report: called with (steps done, note) for the progress bar.
        anchor: the Gram teacher of `gram_initial`.

    Raises:
        ValueError: `run` belongs to another config, the batch cannot be shared out, the probe has too few subjects,
            or the loss was not finite `MAX_BAD_STEPS` times in a row.
    """
    check_passes(config, batches.size, ranks.count)
    probe = probe_of(batches.corpus, config)
    trainee, identity = set_up(config, start, ranks, anchor), identity_of(config, batches.corpus)
    first = load_checkpoint(run, trainee.state, identity)
    log, bad = read_log(run / "log.jsonl", first), 0
    report(first, "")
    schedules = schedules_of(config)
    with _terminated() as asked, events(run, first, config.compute.tensorboard and ranks.first) as show:
        for step, passes in enumerate(batches(first), start=first):
            entry = _step(trainee, [batch.to(ranks.device) for batch in passes], config, schedules, step, ranks)
            bad = 0 if entry["finite"] else bad + 1
            if bad:
                entry["slices"] = [int(number) for number in batches.slices(step)]
            log.append(entry | _probed(probe, trainee, config, step, ranks))
            stop = ranks.any(asked.is_set())
            last = step + 1 == config.steps or stop or bad >= MAX_BAD_STEPS
            if (step + 1) % config.compute.checkpoint_every == 0 or last:
                if ranks.first:
                    write_log(run / "log.jsonl", log)
                    show(log)
                save_checkpoint(run, step + 1, trainee.state, identity, ranks)
            if bad >= MAX_BAD_STEPS:
                raise ValueError(
                    f"the loss was not finite at steps {step - bad + 1} to {step}; their slices are in "
                    f"{run / 'log.jsonl'}. Lower optim.lr, or leave bad scans out"
                )
            if stop:
                print(f"terminated after step {step + 1}, which is saved; the same command goes on", file=sys.stderr)
                raise SystemExit(TERMINATED)
            report(1, live_line(log, config))
            for sentence in alarms(log, config) if ranks.first else ():
                note(f"step {step}: {sentence}")
    return whole_state(trainee.state.teacher)


def identity_of(config: PretrainConfig, corpus: Corpus) -> dict[str, Any]:
    """What decides the result: all settings but `compute`; corpus and initial weights by content, wherever they lie.

    `gram_initial` is left out where it is not set, as by versions that did not have it: their runs go on.
    """
    settings = {name: value for name, value in to_dict(config).items() if name not in ("compute", "gram_initial")}
    settings |= {"corpus": corpus.fingerprint, "initial": config.initial and initial_fingerprint(config.initial)}
    anchor = config.gram_initial
    return settings | ({"gram_initial": initial_fingerprint(anchor)} if anchor is not None else {})


def _step(
    trainee: Trainee, passes: Sequence[Batch], config: PretrainConfig, schedules: Schedules, step: int, ranks: Ranks
) -> dict[str, Any]:
    """One optimiser update; what the log says of it."""
    state, rate, momentum = trainee.state, schedules.rate.value(step), schedules.momentum.value(step)
    set_rates(
        state.optimiser.param_groups,
        rate,
        schedules.weight_decay.value(step),
        freeze_last_layer=step < schedules.freeze_last_layer,
        backbone=schedules.backbone_share(step),
    )
    temperatures = Temperatures(schedules.temperature.value(step), config.teacher.student_temperature)
    with autocast(config.compute, ranks.device):
        targets = teacher_targets(state.teacher, passes, config.loss, temperatures.teacher, ranks, state.centres)
    terms, looks = _gradients(trainee, passes, targets, config, temperatures, step, ranks)
    norms = _numbers(
        {
            f"grad_norm_{name}": whole(torch.nn.utils.clip_grad_norm_(module.parameters(), config.optim.clip))
            for name, module in state.student.named_children()
        }
    )
    finite = all(map(_is_finite, [terms["total"], *norms.values()]))
    if finite:
        state.optimiser.step()
        update_teacher(state.teacher, state.student, momentum)
        _refresh(trainee, config, step)
    entry = {"step": step, "finite": finite, "lr": rate, "momentum": momentum, **terms, **norms}
    return entry | health(targets, looks, state.student, terms, ranks)


def _probed(probe: Probe | None, trainee: Trainee, config: PretrainConfig, step: int, ranks: Ranks) -> dict[str, float]:
    """What the probe says of the teacher after the first step, every `probe.every` steps and after the last one."""
    due = step == 0 or step + 1 == config.steps or (step + 1) % max(config.probe.every, 1) == 0
    if probe is None or not due:
        return {}
    with autocast(config.compute, ranks.device):
        return probe(trainee.state.teacher, ranks)


def _gradients(
    trainee: Trainee,
    passes: Sequence[Batch],
    targets: Sequence[Targets],
    config: PretrainConfig,
    temperatures: Temperatures,
    step: int,
    ranks: Ranks,
) -> tuple[dict[str, float], list[Look]]:
    """Add up the gradients of all passes; mean terms of the loss, and what the monitors look at."""
    trainee.state.optimiser.zero_grad(set_to_none=True)
    terms: dict[str, float] = {}
    looks = []
    for number, (batch, target) in enumerate(zip(passes, targets, strict=True)):
        crops = [batch.global_crops] + ([batch.local_crops] if len(batch.local_crops) else [])
        torch.manual_seed(_seed(config, step, ranks.rank * len(passes) + number))
        directions = torch.Generator().manual_seed(step)
        with _joined_at(trainee.forward, number + 1 == len(passes)), autocast(config.compute, ranks.device):
            seen = trainee.forward(crops, [batch.patch_masks, None][: len(crops)], batch.patch_masks)
            losses = student_loss(
                seen, target, batch, config.loss, temperatures, ranks, trainee.gram_teacher, directions
            )
            (losses["total"] / len(passes)).backward()  # type: ignore[no-untyped-call]
        looks.append(look(seen, batch.samples))
        for name, loss in _numbers(losses).items():
            terms[name] = terms.get(name, 0.0) + loss / len(passes)
    return ranks.mean(terms), looks


@contextlib.contextmanager
def _joined_at(forward: torch.nn.Module, last: bool) -> Iterator[None]:
    """Ranks put their gradients together at the last pass only."""
    if isinstance(forward, torch.nn.parallel.DistributedDataParallel) and not last:
        with forward.no_sync():
            yield
    else:
        yield


def _refresh(trainee: Trainee, config: PretrainConfig, step: int) -> None:
    """Copy the EMA teacher into the Gram teacher where it is due."""
    every = config.loss.gram_refresh
    if trainee.gram_teacher is not None and every and (step + 1) % every == 0:
        update_teacher(trainee.gram_teacher, trainee.state.teacher.backbone, 0.0)


def _seed(config: PretrainConfig, step: int, part: int) -> int:
    """Seed of torch's generator for a pass, the `part`-th of the step over all ranks (RoPE augmentation, drop path).

    RoPE is augmented alike for the whole batch, so without drop path all parts have one seed. With it, parts must not
    drop the same places.
    """
    return (config.seed * 1_000_003 + step * 7919 + (part if config.model.drop_path else 0) * 104_729 + 17) % 2**63


@contextlib.contextmanager
def _terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, instead of ending the process at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _numbers(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Single numbers, fetched from the device together: each fetch would wait for it."""
    return dict(zip(tensors, torch.stack([tensor.detach() for tensor in tensors.values()]).tolist(), strict=True))


def _is_finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
