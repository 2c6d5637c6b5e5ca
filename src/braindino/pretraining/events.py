"""The log as TensorBoard events, for who asks for them (`compute.tensorboard`); `log.jsonl` stays the source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_CURVES = ("step", "finite", "slices")


@contextlib.contextmanager
def events(run: Path, first: int, asked: bool) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """A function that writes those entries of the log that it has not written yet, to `tensorboard/`.

    A resumed run writes from step `first` on and tells TensorBoard to forget later ones of before, so that no curve is
    doubled. These files are a view of the log: TensorBoard's own writer appends to them, and the record has none.

    Raises:
        ValueError: the package is missing.
    """
    if not asked:
        yield lambda log: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "compute.tensorboard needs the package tensorboard: pip install 'braindino[tensorboard]'"
        ) from None
    written = first
    with SummaryWriter(str(run / "tensorboard"), purge_step=first) as writer:

        def write(log: Sequence[Mapping[str, Any]]) -> None:
            nonlocal written
            for entry in (entry for entry in log if entry["step"] >= written):
                for name in entry.keys() - set(NOT_CURVES):
                    writer.add_scalar(name, entry[name], entry["step"])
            written = log[-1]["step"] + 1
            writer.flush()

        yield write
