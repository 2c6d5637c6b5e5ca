"""pretrain --plan: what a run needs on a given machine, as tables. Nothing is read but the config."""

from __future__ import annotations

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.plan import DAY_SECONDS, USABLE, Plan, plan

GIB = 2**30


def show_plan(config: PretrainConfig, hardware: Hardware) -> Plan:
    """Print and return the plan of a run.

    Raises:
        ValueError: the batch cannot be shared out evenly among the ranks or into micro-batches.
    """
    hardware = hardware.used_by(config.compute)
    found = plan(config, hardware)
    console = Console(width=100, highlight=False, markup=False)
    console.print(_parameters(found))
    console.print(_memory(found))
    console.print(_fit(found, hardware))
    console.print(_work(found))
    console.print(_time(found, config, hardware))
    return found


def _parameters(found: Plan) -> Table:
    table = _table("parameters", "million")
    for name, count in found.parameters.items():
        table.add_row(name, f"{count / 1e6:.2f}")
    table.add_row("student", f"{sum(found.parameters.values()) / 1e6:.2f}")
    return table


def _memory(found: Plan) -> Table:
    table = _table("memory per rank", "GiB")
    for name, size in {**found.memory.state, **found.memory.kept}.items():
        if size:
            table.add_row(name, f"{size / GIB:.2f}")
    for name, size in found.memory.phases.items():
        table.add_row(f"all at once: {name}", f"{size / GIB:.2f}")
    return table


def _fit(found: Plan, hardware: Hardware) -> str:
    verdict = "fits into" if found.fits else "does not fit into"
    rounds = found.rank_batch // found.micro_batch
    most = f"the largest micro-batch that fits is {found.largest}" if found.largest else "no micro-batch fits"
    return (
        f"{hardware.gpus} x {hardware.gpu}, {hardware.sharding if hardware.gpus > 1 else 'one process'}, "
        f"{hardware.precision}{', checkpointing' * hardware.checkpointing}: {found.rank_batch} slices per rank as "
        f"{rounds} x {found.micro_batch}. Peak {found.memory.peak / GIB:.1f} GiB {verdict} "
        f"{found.usable / GIB:.1f} GiB ({USABLE:.0%} of {hardware.gpu_memory:g}); {most}.\n"
    )


def _work(found: Plan) -> Table:
    table = _table("one step of all ranks", "tokens", "TFLOP forward", "TFLOP backward", "share")
    whole = sum(part.total for part in found.parts)
    for name, count in found.tokens.items():
        table.add_row(name, f"{count:,.0f}", "", "", "")
    for part in found.parts:
        share = f"{part.total / whole:.1%}"
        table.add_row(part.name, "", f"{part.forward / 1e12:.2f}", f"{part.backward / 1e12:.2f}", share)
    forward, backward = (sum(getattr(part, way) for part in found.parts) for way in ("forward", "backward"))
    total = f"{sum(found.tokens.values()):,.0f}"
    table.add_row("all", total, f"{forward / 1e12:.2f}", f"{backward / 1e12:.2f}", "100.0%")
    return table


def _time(found: Plan, config: PretrainConfig, hardware: Hardware) -> str:
    seconds = found.days * DAY_SECONDS / config.steps
    return (
        f"{config.steps:,} steps of {config.batch_size} slices: {found.seen / 1e6:.1f} M slices, "
        f"{found.seen / hardware.slices:.1f} epochs of {hardware.slices / 1e6:g} M; {found.flops:.3g} FLOP.\n"
        f"{found.days:.2f} days = {24 * found.days:.1f} hours at {hardware.efficiency:.0%} of {hardware.gpus} x "
        f"{hardware.peak_flops / 1e12:g} TFLOP/s: {seconds:.3f} s a step, {config.batch_size / seconds:,.0f} slices/s."
    )


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=MARKDOWN)
    for name in others:
        table.add_column(name, justify="right")
    return table
