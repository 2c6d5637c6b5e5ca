"""The trivial answer that every model must beat: class frequencies, training mean, one risk, no lesion anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, UInt8

from braindino.types import Case, Encoder, Kind, Task, Volume

ON_FEATURES: tuple[Kind, ...] = ("classification", "regression", "survival")


@dataclass(frozen=True)
class Fitted:
    """The same answer for every subject; in regression it is the mean-predictor baseline."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = (*ON_FEATURES, "segmentation")

    answer: Float[np.ndarray, " output"]

    def state(self) -> dict[str, np.ndarray]:
        """The answer."""
        return {"answer": self.answer}

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject output"]:
        """The answer, once per subject."""
        return np.tile(self.answer, (len(x), 1))

    def predict_dense(self, encoder: Encoder, task: Task, volume: Volume) -> UInt8[np.ndarray, "i j k"]:
        """No lesion anywhere: the most frequent label of every voxel. The encoder is not asked."""
        return np.zeros(volume.voxels.shape[1:], np.uint8)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    return Fitted(np.asarray(state["answer"], float))


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """Class frequencies in the training set; mean of the training targets; risk 0. The features are not looked at.

    `y` is (subject,) of class names or values, or (subject, 2); classes in sorted order.

    Raises:
        ValueError: a task of another kind, or no training subject.
    """
    if kind not in ON_FEATURES:
        raise ValueError(f"on features the prior head serves {', '.join(ON_FEATURES)}, not {kind}")
    if len(y) == 0:
        raise ValueError("no training subject")
    if kind == "survival":
        return Fitted(np.zeros(1))
    if kind == "regression":
        return Fitted(np.array([y.mean()], float))
    classes = np.unique(np.concatenate([y, validation[1]]))
    return Fitted((y[:, None] == classes).mean(0))


def fit_dense(encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int) -> Fitted:
    """The answer "no lesion" for segmentation; nothing is learned."""
    return Fitted(np.zeros(len(task.regions)))
