"""Cases through a frozen encoder, one after the other: a case in, a row of features or the reason for none out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float16, Float32

from braindino.pipeline.perturbing import Perturbation
from braindino.record import NO_ROOM
from braindino.types import Case, Encoder, Level, Pooling, Scan, Tokens, Volume
from braindino.volume.io import read_case

OK = "ok"


@dataclass(frozen=True)
class How:
    """What is done with every case, besides the encoder; plain data that decides what the features are."""

    contrasts: tuple[str, ...]
    """Of each case, in this order."""
    pooling: Pooling = "cls"
    level: Level = "cls"
    any_contrast: bool = False
    """A case that lacks some of the contrasts is encoded with those it has."""
    perturbation: str = "none"
    severity: int = 0
    seed: int = 0
    """Of the perturbation; what is drawn for a subject depends on this and on nobody else."""
    assume_orientation: str | None = None

    def __post_init__(self) -> None:
        self.perturbed()  # which checks them

    def perturbed(self) -> Perturbation:
        """The perturbation with its severity and seed."""
        return Perturbation(self.perturbation, self.severity, self.seed)


@dataclass(frozen=True)
class Row:
    """What came of one case: vectors, or a status that says why there are none."""

    status: str
    missing: tuple[str, ...] = ()
    """Contrasts that the case lacks; their views are NaN."""
    contrasts: tuple[str, ...] = ()
    """Contrast of each view."""
    values: Float16[np.ndarray, "view dim"] | None = None
    position_mm: Float32[np.ndarray, " view"] | None = None
    patch: Float16[np.ndarray, "view patch dim"] | None = None


def rows(cases: Sequence[Case], encoder: Encoder, how: How) -> Iterator[Row]:
    """The row of each case, in order; the next case is read (and prepared) while one is computed.

    Raises:
        OSError: the disk is full. Every other failure of a case is the status of its row.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        coming: Future[Volume] | None = None
        for number, case in enumerate(cases):
            ready = coming or reader.submit(_ready, case, encoder, how)
            coming = reader.submit(_ready, cases[number + 1], encoder, how) if number + 1 < len(cases) else None
            yield _row(case, encoder, how, ready.result)


def row(case: Case, encoder: Encoder, how: How) -> Row:
    """The row of one case."""
    return _row(case, encoder, how, lambda: _ready(case, encoder, how))


def _row(case: Case, encoder: Encoder, how: How, volume: Callable[[], Volume]) -> Row:
    try:
        ready = volume()
        patches = how.pooling == "mean_patch" or how.level == "patch"
        tokens = getattr(encoder, "tokens_of", encoder.tokens)(ready, patches=patches)
        return _laid_out(tokens, case, how, joint=getattr(encoder, "joint", False))
    except (ValueError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        return Row(str(error) or type(error).__name__)


def _ready(case: Case, encoder: Encoder, how: How) -> Volume:
    """A case's volume, perturbed where that is asked for, and prepared where the encoder does that apart."""
    volume = how.perturbed().of(read_case(_scans(case, how), assume_orientation=how.assume_orientation))
    prepare: Callable[[Volume], Volume] | None = getattr(encoder, "prepare", None)
    return volume if prepare is None else prepare(volume)


def _scans(case: Case, how: How) -> list[Scan]:
    by_contrast = {scan.contrast: scan for scan in case.scans}
    missing = [contrast for contrast in how.contrasts if contrast not in by_contrast]
    if missing and (not how.any_contrast or len(missing) == len(how.contrasts)):
        raise ValueError(f"{case.name} has no {', '.join(missing)}")
    return [replace(by_contrast[name], label_map=None) for name in how.contrasts if name in by_contrast]


def _laid_out(tokens: Tokens, case: Case, how: How, *, joint: bool) -> Row:
    """The views of every wanted contrast in order, NaN for those that the case lacks; a joint view is there anyway."""
    missing = tuple(sorted(set(how.contrasts) - {scan.contrast for scan in case.scans}, key=how.contrasts.index))
    values, positions = _pooled(tokens, how.pooling), tokens.position_mm
    patch = None if how.level == "cls" else _patch(tokens)
    if not missing or joint:
        kept = None if patch is None else patch.astype(np.float16)
        names = ("+".join(how.contrasts),) * len(values) if joint else tokens.contrasts
        return Row(OK, missing, names, values.astype(np.float16), positions.astype(np.float32), kept)
    present = [contrast for contrast in how.contrasts if contrast not in missing]
    places = {contrast: [n for n, own in enumerate(tokens.contrasts) if own == contrast] for contrast in present}
    count = len(places[present[0]])
    order = [n for contrast in how.contrasts for n in places.get(contrast, [-1] * count)]
    names = tuple(contrast for contrast in how.contrasts for _ in range(count))
    return Row(
        OK,
        missing,
        names,
        _taken(values, order).astype(np.float16),
        _taken(positions, order).astype(np.float32),
        None if patch is None else _taken(patch, order).astype(np.float16),
    )


def _taken(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The entries of `array` in `order`, NaN for -1."""
    taken = array[order].astype(np.float32)
    taken[np.array(order) < 0] = np.nan
    return taken


def _pooled(tokens: Tokens, pooling: Pooling) -> Float32[np.ndarray, "view dim"]:
    """One vector per view."""
    return tokens.cls if pooling == "cls" else np.asarray(_patch(tokens).mean(axis=1), np.float32)


def _patch(tokens: Tokens) -> Float32[np.ndarray, "view patch dim"]:
    """Patch tokens.

    Raises:
        ValueError: the encoder gives none.
    """
    if tokens.patch is None:
        raise ValueError("this encoder gives no patch tokens; use --pooling cls and --level cls")
    return tokens.patch
