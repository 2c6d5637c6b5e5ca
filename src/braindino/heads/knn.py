"""k-nearest-neighbour head: cosine similarity, unweighted votes, k chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from braindino.stats.representation import knn_votes
from braindino.types import Kind

NEIGHBOURS = (1, 3, 5, 10, 20, 50)


@dataclass(frozen=True)
class Fitted:
    """The training features as a memory bank."""

    needs: ClassVar[Literal["cls"]] = "cls"
    kinds: ClassVar[tuple[Kind, ...]] = ("classification",)

    bank: Float[np.ndarray, "subject feature"]
    labels: Int[np.ndarray, " subject"]
    k: int
    classes: int

    def state(self) -> dict[str, np.ndarray]:
        """Bank, labels, number of neighbours and of classes."""
        return {"bank": self.bank, "labels": self.labels, "size": np.array([self.k, self.classes], np.int64)}

    def predict(self, x: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, "subject class"]:
        """Share of each class among the k nearest training subjects."""
        return knn_votes(self.bank, self.labels, x, self.k, self.classes)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The head that `state()` described."""
    k, classes = (int(number) for number in state["size"])
    return Fitted(np.asarray(state["bank"], float), np.asarray(state["labels"], np.int64), k, classes)


def fit(
    x: Float[np.ndarray, "subject feature"],
    y: Shaped[np.ndarray, " subject"],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind,
    seed: int = 0,
) -> Fitted:
    """Remember the training set and take the k with the best validation accuracy; of equals the largest.

    `y` holds class names (or indices); outputs are in the sorted order of the classes seen in training and
    validation. Deterministic: `seed` has no influence. A k above the number of training subjects is not tried.

    Raises:
        ValueError: a task of another kind.
    """
    if kind not in Fitted.kinds:
        raise ValueError(f"the knn head serves classification, not {kind}")
    classes = np.unique(np.concatenate([y, validation[1]]))
    labels = np.searchsorted(classes, y)
    tried = [Fitted(x.astype(float), labels, k, len(classes)) for k in NEIGHBOURS if k <= len(x)]
    right = [float(np.mean(classes[head.predict(validation[0]).argmax(1)] == validation[1])) for head in tried]
    return max(zip(right, (head.k for head in tried), tried, strict=True), key=lambda item: item[:2])[2]
