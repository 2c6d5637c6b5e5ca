"""Not frozen: a copy of the whole encoder learns with the paper's dense head, as the paper's released code does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from braindino.fitting import segmenting
from braindino.fitting.segmenting import decoder_arrays, decoder_from, learn_decoder, lesson, segment
from braindino.fitting.upsampling import UpDecoder
from braindino.heads import check_label_map, one_label_map, slice_model, slice_recipe
from braindino.types import Case, Encoder, Kind, Task, Volume

NAME = "tuned_decoder"
STEPS = segmenting.STEPS
RATE = 3e-5
"""Of the encoder, as in the paper's code."""


@dataclass(frozen=True)
class Fitted:
    """The decoder, and every weight of the encoder that it was learned with."""

    needs: ClassVar[Literal["gradient"]] = "gradient"
    kinds: ClassVar[tuple[Kind, ...]] = ("segmentation",)

    decoder: UpDecoder
    inside: Mapping[str, np.ndarray]

    def state(self) -> dict[str, np.ndarray]:
        """Both, as `decoder.NAME` and `inside.NAME`."""
        named = (("decoder", decoder_arrays(self.decoder)), ("inside", self.inside))
        return {f"{part}.{name}": array for part, arrays in named for name, array in arrays.items()}

    def predict_dense(self, encoder: Encoder, task: Task, volume: Volume) -> UInt8[np.ndarray, "i j k"]:
        """The label map of a volume as `conv_decoder` makes it, with the learned copy in place of the encoder.

        Raises:
            ValueError: as `slice_model` and `segment`.
        """
        model: Any = deepcopy(slice_model(encoder, NAME))
        model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in self.inside.items()}, strict=False)
        return one_label_map(segment(model, self.decoder, slice_recipe(encoder), volume, tuple(task.regions)), task)


def from_state(state: Mapping[str, np.ndarray]) -> Fitted:
    """The inverse of `Fitted.state`."""
    parts: dict[str, dict[str, np.ndarray]] = {"decoder": {}, "inside": {}}
    for name, array in state.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = array
    return Fitted(decoder_from(parts["decoder"]), parts["inside"])


def fit_dense(
    encoder: Encoder, task: Task, train: Sequence[Case], validation: Sequence[Case], *, seed: int, steps: int = STEPS
) -> Fitted:
    """Learn decoder and a copy of the encoder (rate 3e-5) by `learn_decoder`. All slices lie on disk (float16).

    Raises:
        ValueError: as `slice_model`, `lesson` and `learn_decoder`, or a label map of another scheme.
    """
    model: Any = deepcopy(slice_model(encoder, NAME)).requires_grad_(True)
    trained = dict(model.named_parameters())
    with lesson(NAME, task, (train, validation), slice_recipe(encoder), partial(check_label_map, task)) as given:
        return Fitted(*learn_decoder(NAME, model, given, seed=seed, steps=steps, inside=trained, rate=RATE))
