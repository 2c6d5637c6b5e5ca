"""The nine types that everything else passes around: frozen, no torch, units in the names.

Arrays are numpy; shapes stand in the annotations and are checked in the tests (jaxtyping).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Integer

if TYPE_CHECKING:
    import pandas as pd

    from braindino.volume.box import BoxRecipe
    from braindino.volume.quality import Quality
    from braindino.volume.recipe import Recipe

Kind = Literal["classification", "regression", "survival", "segmentation"]
Split = Literal["train", "validation", "test"]
Pooling = Literal["cls", "mean_patch"]
"""What a view is summed up by: its CLS token, or the mean of its patch tokens."""
Level = Literal["cls", "patch"]
"""What features hold: a vector per view, or besides it every patch token of each view."""
Calibration = Literal["none", "temperature", "isotonic"]
"""How class probabilities are calibrated on the validation subjects."""
Transform = Literal["none", "log1p"]
"""What a head learns in place of a target: the target itself, or ln(1 + target)."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Scan:
    """One acquired image on disk: a row, no pixels."""

    cohort: str
    subject: str
    contrast: str
    """T1w, T1ce, T2w, FLAIR, ... (BIDS suffix; T1 after contrast agent is T1ce)."""
    path: Path
    session: str = ""
    site: str = ""
    brain_mask: Path | None = None
    """Brain mask on the grid of `path`, where the cohort ships one."""
    label_map: Path | None = None
    """Voxel labels of a segmentation on the grid of `path`, where there are any."""
    volume: int | str | None = None
    """Which image, where `path` holds several: number of a 4-D volume, or name of an image of a DICOM folder."""
    age: float | None = None
    """Of the subject at the scan, in years, for the counts of a corpus; None where it is not known."""
    sex: str = ""
    """F or M, or what else the cohort's table says; "" where it is not known."""


@dataclass(frozen=True)
class Case:
    """One session of one subject with its scans: one row of features and of predictions."""

    subject: str
    scans: tuple[Scan, ...]
    session: str = ""
    site: str = ""
    participant: Mapping[str, Any] = field(default_factory=dict)
    """What the cohort's table says of this subject and session (age, diagnosis, ...)."""

    @property
    def name(self) -> str:
        """`subject` or `subject_session`: unique within a cohort."""
        return f"{self.subject}_{self.session}" if self.session else self.subject


@dataclass(frozen=True)
class Volume:
    """Co-registered contrasts of one session in RAS orientation, on one grid."""

    voxels: Float32[np.ndarray, "contrast i j k"]
    contrasts: tuple[str, ...]
    affine: Float[np.ndarray, "4 4"]
    """Voxel index (i, j, k) to world millimetres; i grows to the Right, j Anterior, k Superior."""
    scans: tuple[Scan, ...] = ()
    brain_mask: Bool[np.ndarray, "i j k"] | None = None
    label_map: Integer[np.ndarray, "i j k"] | None = None
    history: tuple[str, ...] = ()
    """Every decision taken since the file was opened, in order, as sentences."""
    quality: Quality | None = None
    """Measured on the scan when it was prepared."""
    position_mm: Float32[np.ndarray, " k"] | None = None
    """World z coordinate of each slice of a prepared volume whose slices are not evenly spaced."""
    to_scan: Float[np.ndarray, "4 4"] | None = None
    """From this volume's world to the scan's, in mm, where it was aligned to a template."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])


@dataclass(frozen=True)
class Tokens:
    """What an encoder says about one volume. A view is a slice of one contrast, or a whole volume."""

    cls: Float32[np.ndarray, "view dim"]
    patch: Float32[np.ndarray, "view patch dim"] | None
    """Patch tokens, row-major over `grid`; None where the encoder was asked for CLS only."""
    storage: Float32[np.ndarray, "view storage dim"] | None
    grid: tuple[int, ...]
    """Patches along each axis of a view: (rows, columns) of a slice; (x, y, z) of a box, in the order of its recipe."""
    position_mm: Float32[np.ndarray, " view"]
    """World z coordinate of each view (0 for a whole volume)."""
    contrasts: tuple[str, ...]
    """Contrast of each view; all slices of the first contrast come first. A view of several contrasts at once names
    them joined, as "T1w+FLAIR"."""
    prepared: Volume
    """The volume on the encoder's own grid, with its brain mask and label map; a box has the axes of its recipe, which
    need not be RAS (the affine says where they point)."""


@runtime_checkable
class Encoder(Protocol):
    """The seam between images and everything learned on them: a volume in, tokens out."""

    name: str
    dim: int
    recipe: Recipe | BoxRecipe

    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """Preprocess `volume` by `self.recipe` and encode it; deterministic, no gradient.

        `patches` asks for patch and storage tokens too, `every_slice` for one view per `recipe.spacing_mm` (a 3-D
        encoder always sees the whole box). An encoder may split this in two: `prepare(volume) -> Volume` and
        `tokens_of(prepared) -> Tokens`; then `encode` prepares the next case while one is computed. One that joins all
        contrasts of a volume in one view says so by an attribute `joint`, which is True; one of a plug-in with several
        variants tells its own by an attribute `variant`.
        """
        ...

    def digest(self) -> str:
        """SHA-256 over all weights: equal before and after `fit`, since frozen is a fact."""
        ...


@dataclass(frozen=True)
class Features:
    """Cached encoder outputs: one vector per case and view."""

    values: Float16[np.ndarray, "case view dim"]
    position_mm: Float32[np.ndarray, "case view"]
    cases: pd.DataFrame
    """One row per case, also the failed ones: case, subject, session, site, status ("ok" or the reason), missing
    (contrasts that the case lacks, whose views are NaN)."""
    encoder: str
    encoder_digest: str
    recipe: str
    """Hash of the preprocessing recipe."""
    contrasts: tuple[str, ...]
    """Contrast of each view."""
    pooling: Pooling = "cls"
    perturbation: str = "none"
    severity: int = 0
    seed: int = 0
    """Of the perturbation."""
    variant: str = ""
    """Variant of the encoder; "" where it has but one."""
    patch: Path | None = None
    """Folder with the patch tokens of each case, `<row>.npy` (view, patch, dim) float16; None: not asked for."""
    seen: frozenset[str] | None = None
    """Digests of the subjects that the encoder was pretrained on (see `corpus.audit.name_digest`); None: not told."""


@dataclass(frozen=True)
class Task:
    """A question with a known answer for each case, and a fixed split by subject."""

    name: str
    kind: Kind
    cohort: str
    contrasts: tuple[str, ...]
    target: tuple[str, ...]
    """Columns of the participants table: one, or (time, event) for survival; () for segmentation."""
    unit: str
    metric: str
    """The headline metric, by its name in `stats.metrics`."""
    source: str
    """Which paper task this is, or what it is a stand-in for."""
    cases: tuple[Case, ...]
    split: Mapping[str, Split]
    """Subject to train, validation or test."""
    classes: tuple[str, ...] = ()
    """Class names, in the order of the outputs, for classification."""
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Region name to the labels it unites, for segmentation."""
    transform: Transform = "none"
    """What the head learns of the target; predictions and metrics are in `unit` again."""
    protocol: str = "three_way"
    """How the split was made: `three_way`, `paper` (two-way: chosen and reported on validation), `site:NAME`."""

    def cases_of(self, split: Split) -> tuple[Case, ...]:
        """The cases whose subject belongs to `split`, in order of their names."""
        chosen = (case for case in self.cases if self.split[case.subject] == split)
        return tuple(sorted(chosen, key=lambda case: case.name))


@runtime_checkable
class Head(Protocol):
    """Something light, learned on top of a frozen encoder."""

    needs: Literal["cls", "views", "patch", "gradient"]
    kinds: tuple[Kind, ...]

    def state(self) -> dict[str, np.ndarray]:
        """Everything learned, as arrays (written as safetensors; no pickle)."""
        ...


@dataclass(frozen=True)
class Predictions:
    """One row per case of the split, failed cases included."""

    table: pd.DataFrame
    """Columns: task, encoder, head, fraction, seed, perturbation, severity, protocol, split, subject, case,
    site, pretrained (was the encoder pretrained on the subject: yes, no, unknown), status, target columns
    (`target`, or `time` and `event`), output columns (`output`, `output_<class>`, or region metrics for
    segmentation)."""
