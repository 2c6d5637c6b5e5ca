"""The paper's dense head: tokens of four blocks, doubled up to pixels by four transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from braindino.fitting import segmenting
from braindino.fitting.segmenting import decoder_arrays, decoder_from, learn_decoder, lesson, segment
from braindino.fitting.upsampling import UpDecoder
from braindino.heads import check_label_map, one_label_map, slice_model, slice_recipe
from braindino.types import Case, Encoder, Kind, Task, Volume

NAME = "conv_decoder"
STEPS = segmenting.STEPS


@dataclass(frozen=True)
class Fitted:
    """The decoder; the encoder is not in it."""

    needs: ClassVar[Literal["patch"]] = "patch"
    kinds: ClassVar[tuple[Kind, ...]] = ("segmentation",)

    decoder: UpDecoder

    def state(self) -> dict[str, np.ndarray]:
        """Weights of the decoder, and the side of a patch."""
        return decoder_arrays(self.decoder)

    def predict_dense(self, encoder: Encoder, task: Task, volume: Volume) -> UInt8[np.ndarray, "i j k"]:
        """The label map of a volume on its own grid: regions are thresholded at 1/2, the innermost is set last.

        Raises:
            ValueError: as `slice_model` and `segment`.
        """
        model = slice_model(encoder, NAME)
        return one_label_map(segment(model, self.decoder, slice_recipe(encoder), volume, tuple(task.regions)), task)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The inverse of `Fitted.state`."""
    return Fitted(decoder_from(state))


def fit_dense(
    encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int, steps: int = STEPS
) -> Fitted:
    """Learn the decoder by `learn_decoder`; the encoder gets no gradient. All slices lie on disk (float16).

    Raises:
        ValueError: as `slice_model`, `lesson` and `learn_decoder`, or a label map of another scheme.
    """
    model, recipe = slice_model(encoder, NAME), slice_recipe(encoder)
    with lesson(NAME, task, (train, validation), recipe, partial(check_label_map, task)) as given:
        decoder, _ = learn_decoder(NAME, model, given, seed=seed, steps=steps, inside={}, rate=0.0)
    return Fitted(decoder)
