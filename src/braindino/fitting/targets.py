"""What every head asks of its design matrix and targets before it learns."""

from __future__ import annotations

import numpy as np


def check_rows(x: np.ndarray, y: np.ndarray, where: str) -> None:
    """Require one target per row of `x`, at least one row, and finite features.

    Raises:
        ValueError: another number of targets than of rows, no row, or a feature that is not finite.
    """
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{where}: expected one target for each of the subjects, got {len(x)} rows and {len(y)}")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
        raise ValueError(f"{where}: row {row} of the features is not finite; leave failed cases out")


def class_indices(y: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as indices into the sorted classes of both.

    Raises:
        ValueError: a class without a training subject, or a single class.
    """
    classes = np.unique(np.concatenate([y, validation]))
    missing = sorted(set(classes.tolist()) - set(y.tolist()))
    if missing:
        raise ValueError(f"class {missing[0]} has no training subject; use a larger fraction of the training set")
    if len(classes) < 2:
        raise ValueError(f"all subjects are of class {classes[0]}; there is nothing to tell apart")
    return np.searchsorted(classes, y), np.searchsorted(classes, validation)


def check_values(y: np.ndarray, where: str) -> None:
    """Require finite values (subject,) to regress on.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    if y.ndim != 1 or not np.isfinite(y).all():
        raise ValueError(f"{where}: expected a finite value per subject, got shape {y.shape}")


def check_events(y: np.ndarray, least: int, where: str, head: str) -> int:
    """Number of events among (time, event) pairs.

    Raises:
        ValueError: another shape, times that are not finite, or fewer than `least` events.
    """
    if y.ndim != 2 or y.shape[1] != 2 or not np.isfinite(y).all():
        raise ValueError(f"{where}: expected finite (time, event) per subject, got shape {y.shape}")
    events = int(y[:, 1].sum())
    if events < least:
        raise ValueError(f"{where}: {events} events among {len(y)} subjects; the {head} head needs at least {least}")
    return events
