"""What heads learn on where it does not fit into memory, a cohort's patch tokens or pictures: in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Integer, Shaped

from braindino.progress import note
from braindino.record import require_room

Place = tuple[int, tuple[int, ...], np.dtype]
"""First byte, shape and dtype of an array in the file."""


class Scratch:
    """A file without a name in `TMPDIR`, for arrays of many cases.

    It is gone when it is closed, and with its process, however that dies. It is always written: what fits into memory
    stays in the system's cache of the disk.
    """

    def __init__(self, head: str, cases: int = 0) -> None:
        """An empty file for a head; with `cases`, the first case tells how large all of them are."""
        self._head, self._cases = head, cases
        self._file = tempfile.TemporaryFile(prefix="braindino-")  # noqa: SIM115 (closed by __exit__)
        self._end = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def require_room(self, slices: int, case_bytes: int) -> None:
        """Before the first case is written, say how large all are if they are like it; nothing later.

        Raises:
            ValueError: the disk has less room than that; the message has both sizes.
        """
        if self._cases and not self._end:
            what = f"what head {self._head!r} learns on, {self._cases} cases of {slices} slices like the first,"
            remedy = "set TMPDIR to a folder on a larger disk, or learn on fewer subjects (--fraction)"
            note(require_room(Path(tempfile.gettempdir()), self._cases * case_bytes, what, remedy))

    def write(self, array: Shaped[np.ndarray, "*any"]) -> Place:
        """Append an array.

        Raises:
            OSError: the disk is full.
        """
        start, whole = self._end, np.ascontiguousarray(array)
        try:
            self._file.seek(start)
            self._file.write(whole.data)
            self._file.flush()
        except OSError as error:
            error.filename = error.filename or tempfile.gettempdir()
            raise
        self._end += whole.nbytes
        return start, array.shape, array.dtype

    def read(self, place: Place) -> Shaped[np.ndarray, "*any"]:
        """An array, as it was written.

        Raises:
            OSError: the disk cannot be read.
        """
        start, shape, kind = place
        array = np.empty(shape, kind)
        self._file.seek(start)
        if self._file.readinto(array.data) != array.nbytes:
            raise OSError(f"a temporary file in {tempfile.gettempdir()} ends before its content does")
        return array

    def mapped(self, places: Sequence[Place]) -> tuple[Shaped[np.ndarray, "*any"], ...]:
        """Arrays that memory holds as they are looked at; the file may be closed then, changes are not written."""
        whole = np.memmap(self._file, np.uint8, "c") if self._end else np.zeros(0, np.uint8)
        return tuple(
            whole[start : start + prod(shape) * kind.itemsize].view(kind).reshape(shape)
            for start, shape, kind in places
        )


class Slices:
    """Values and labels of the slices of many cases in such a file, each read when it is taken."""

    def __init__(self, head: str, cases: int = 0) -> None:
        """As `Scratch`."""
        self._scratch = Scratch(head, cases)
        self._places: list[tuple[Place, Place]] = []
        self._lesion: list[int] = []

    def __enter__(self) -> Slices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Shaped[np.ndarray, "*any"], Shaped[np.ndarray, "*some"]]:
        """Values and labels of a slice.

        Raises:
            OSError: the disk cannot be read.
        """
        values, labels = self._places[number]
        return self._scratch.read(values), self._scratch.read(labels)

    @property
    def lesion(self) -> Integer[np.ndarray, " slice"]:
        """The slices in which a label is not 0."""
        return np.array(self._lesion, int)

    def add(self, values: Shaped[np.ndarray, count * any], labels: Shaped[np.ndarray, count * some]) -> None:
        """Write the slices of one case; the first says how large all cases are if they are like it.

        Raises:
            ValueError: as `Scratch.require_room`.
            OSError: the disk is full after all.
        """
        self._scratch.require_room(len(values), values.nbytes + labels.nbytes)
        for one, known in zip(values, labels, strict=True):
            if known.any():
                self._lesion.append(len(self))
            self._places.append((self._scratch.write(one), self._scratch.write(known)))
