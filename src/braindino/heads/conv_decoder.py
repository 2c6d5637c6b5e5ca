"""The paper's dense head: tokens of four blocks, doubled up to pixels by four transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from braindino.fitting import segmenting
from braindino.fitting.segmenting import Lesson, decoder_arrays, decoder_from, learn_decoder, read_pictures, segment
from braindino.fitting.upsampling import UpDecoder
from braindino.heads import check_label_map, one_label_map, slice_model, slice_recipe, written_and_scored
from braindino.types import Case, Encoder, Kind, Task
from braindino.volume.io import read_case

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

    def predict_dense(self, encoder: Encoder, task: Task, case: Case, out: Path | None) -> dict[str, float]:
        """Segment one case on its own grid; Dice and HD95 per region where the case has a label map.

        Regions are thresholded at 1/2 and written as one label map, the innermost region last.

        Raises:
            ValueError: as `slice_model`, `segment` and `written_and_scored`.
        """
        model, original = slice_model(encoder, NAME), read_case(case.scans)
        regions = segment(model, self.decoder, slice_recipe(encoder), original, tuple(task.regions))
        return written_and_scored(task, case, original, one_label_map(regions, task), out)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The inverse of `Fitted.state`."""
    return Fitted(decoder_from(state))


def fit_dense(
    encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int, steps: int = STEPS
) -> Fitted:
    """Learn the decoder by `learn_decoder`; the encoder gets no gradient. All slices are held in memory (float16).

    Raises:
        ValueError: as `slice_model` and `learn_decoder`, or a label map of another scheme.
    """
    model, recipe = slice_model(encoder, NAME), slice_recipe(encoder)
    slices, held = (read_pictures(part, recipe, partial(check_label_map, task)) for part in (train, validation))
    lesson = Lesson(slices, held, task.regions, len(task.contrasts), recipe)
    decoder, _ = learn_decoder(NAME, model, lesson, seed=seed, steps=steps, inside={}, rate=0.0)
    return Fitted(decoder)
