"""Heads: something light, learned on top of a frozen encoder, or inside a copy of it. One file each.

Contract of a head on features: the module defines a frozen dataclass `Fitted` with class attributes `needs` and
`kinds`, `state()` (name to array), and

- `fit(x, y, validation, *, kind, seed) -> Fitted`: `y` is (subject,) or, for survival, (subject, 2) = time, event;
  `validation = (x, y)` is for choosing strengths and stopping, never the test set. Class names are strings; outputs
  come in their sorted order;
- `from_state(state) -> Fitted`;
- `Fitted.predict(x) -> (subject, output)`: class probabilities, the regressed value, or one risk per subject
  (higher risk, earlier event).

`needs` says what `x` is: "cls", float64 (subject, feature), the mean over the views of each scan; "views", `Views`,
every view with its position; "gradient", `Live`, the pictures of each scan and the encoder, of which the head trains a
copy: the encoder itself stays as it is. A session of a subject is a row. `kinds` names the task kinds it serves. A head
for survival may define `ends`, moments in the unit of the times, and `survival(x) -> (subject, end)`, the probability
of no event up to each. What is learned is arrays only: no pickle. A head with a constant `STEPS` trains for so many;
its `fit` or `fit_dense` then takes another number as `steps`.

Segmentation is dense: a head that serves it defines `fit_dense(encoder, task, train, validation, *, seed) -> Fitted`,
which runs the encoder live and without gradient, and `Fitted.predict_dense(encoder, task, volume)`, the label map of a
volume on the volume's own grid, uint8. A head for segmentation alone has `needs = "patch"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Integer, UInt8

from braindino.layouts.labels import SCHEMES, check_labels
from braindino.stats.segmentation import region_scores
from braindino.types import Case, Encoder, Task, Volume
from braindino.volume.io import as_stored, write_nifti
from braindino.volume.recipe import Recipe


@dataclass(frozen=True)
class Views:
    """Every view of each subject, for heads that do not take their mean."""

    values: Float32[np.ndarray, "subject view dim"]
    position_mm: Float32[np.ndarray, "subject view"]
    """World z coordinate of each view."""
    contrast: Integer[np.ndarray, " view"]
    """Contrast of each view, numbered in the order in which the features hold them."""


@dataclass(frozen=True)
class Live:
    """The prepared pictures of each scan, and the encoder that is to see them."""

    encoder: Encoder
    pictures: tuple[Float16[np.ndarray, "view channel row column"], ...]
    """One array per case, as the encoder takes them."""


def slice_model(encoder: Encoder, head: str) -> Any:
    """The vision transformer of an encoder of slices, for heads that look inside it.

    Raises:
        ValueError: an encoder of whole volumes, one that is no vision transformer, or another variant than `exact`.
    """
    model = getattr(encoder, "model", None)
    if not isinstance(encoder.recipe, Recipe):
        raise ValueError(f"encoder {encoder.name!r} takes whole volumes; head {head!r} is for encoders of slices")
    if not hasattr(model, "intermediate"):
        raise ValueError(f"encoder {encoder.name!r} is no vision transformer; head {head!r} looks inside one")
    if not getattr(encoder, "exact", True):
        raise ValueError(
            f"head {head!r} needs every patch of a slice, in float32; use the variant 'exact' of {encoder.name!r}"
        )
    return model


def slice_recipe(encoder: Encoder) -> Recipe:
    """The recipe of an encoder that `slice_model` took."""
    assert isinstance(encoder.recipe, Recipe)
    return encoder.recipe


def check_contrasts(learned: Integer[np.ndarray, " view"], x: Views) -> None:
    """Require the same number of views of each contrast, in the same order, as a head was learned on.

    Raises:
        ValueError: otherwise.
    """
    if not np.array_equal(learned, x.contrast):
        raise ValueError(
            f"the head was learned on {len(learned)} views of {len(np.unique(learned))} contrasts, got "
            f"{len(x.contrast)} of {len(np.unique(x.contrast))}; encode the same contrasts with the same recipe"
        )


def written_and_scored(
    task: Task, case: Case, original: Volume, predicted: UInt8[np.ndarray, "i j k"], out: Path | None
) -> dict[str, float]:
    """Write a predicted label map on the scan's own grid, voxel for voxel, and score it.

    The scores are `output_<region>_<metric>` (see `stats.segmentation.region_scores`). Nothing is written without
    `out`, nothing is scored where the case has no label map.

    Raises:
        ValueError: a name that would lead out of the folder, or as `check_label_map`.
    """
    if original.label_map is not None:
        check_label_map(task, case, original.label_map)
    if out is not None:
        if {"/", "\\", "\0"} & {*case.name}:
            raise ValueError(f"case {case.name!r} cannot name a file; rename it without / and \\")
        stored, affine = as_stored(predicted, original)
        write_nifti(out / "label_maps" / f"{case.name}_dseg.nii.gz", stored, affine)
    if original.label_map is None:
        return {}
    group = str(case.participant.get("group", ""))
    scores = region_scores(original.label_map, predicted, task.regions, original.spacing_mm, group)
    return {f"output_{name}": value for name, value in scores.items()}


def check_label_map(task: Task, case: Case, label_map: Integer[np.ndarray, "i j k"]) -> None:
    """Require that a label map holds values of the label scheme whose regions the task has.

    Raises:
        ValueError: values that have no meaning in it; the message names case, values and scheme.
    """
    scheme = next((name for name, known in SCHEMES.items() if known.regions == task.regions), None)
    if scheme is not None:
        try:
            check_labels(scheme, np.unique(label_map).tolist())
        except ValueError as error:
            raise ValueError(f"{case.name}: {error}") from None


def one_label_map(regions: dict[str, Bool[np.ndarray, "i j k"]], task: Task) -> UInt8[np.ndarray, "i j k"]:
    """One label per voxel: regions from the largest to the smallest; each writes the label that it adds."""
    names = sorted(task.regions, key=lambda name: -len(task.regions[name]))
    result = np.zeros(next(iter(regions.values())).shape, np.uint8)
    inside = np.ones_like(result, bool)
    for number, name in enumerate(names):
        inner = set(task.regions[names[number + 1]]) if number + 1 < len(names) else set()
        inside = inside & regions[name]
        result[inside] = next(label for label in task.regions[name] if label not in inner)
    return result
