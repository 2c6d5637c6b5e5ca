"""One synthetic subject, determined by (seed, subject id): who it is, its brain, its lesion, its images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.ndimage import binary_dilation

from braindino.synthesis import anatomy as anatomies
from braindino.synthesis import deform
from braindino.synthesis.anatomy import CORTEX, MEDIAL_TEMPORAL, TISSUES, VENTRICLE, Anatomy
from braindino.synthesis.atrophy import grow_csf
from braindino.synthesis.effects import Effects
from braindino.synthesis.lesions import Lesion, grow_infarct, grow_tumour
from braindino.synthesis.outcomes import draw_survival, log_hazard
from braindino.synthesis.render import render
from braindino.synthesis.sites import CONTRASTS, SITES, Site
from braindino.synthesis.space import Space, resample

CORTEX_SMOOTH_MM, TEMPORAL_SMOOTH_MM = 2.0, 3.5
"""How far from CSF the loss of tissue reaches."""
PUSH_REACH_MM = 14.0
"""How far from the ventricles or a lesion the surroundings still give way."""


@dataclass(frozen=True)
class Person:
    """What is drawn before any voxel: the participants table in the making."""

    subject: str
    group: str
    age: float
    sex: str
    site: Site
    anatomy: str
    mutant: bool
    lesion_ml: float
    days_since_stroke: float


@dataclass(frozen=True)
class Subject:
    """Images and truth of one subject, all on one grid."""

    images: Mapping[str, Float32[np.ndarray, "i j k"]]
    affine: Float[np.ndarray, "4 4"]
    brain_mask: Bool[np.ndarray, "i j k"]
    label_map: UInt8[np.ndarray, "i j k"] | None
    row: Mapping[str, Any]
    """The subject's row of the participants table."""
    fractions: Float32[np.ndarray, "tissue i j k"]
    """Tissue fractions before the lesion."""


def streams(seed: int, subject: str) -> dict[str, np.random.Generator]:
    """Independent random numbers per purpose, from (seed, subject id) alone: other subjects change nothing."""
    words = np.frombuffer(hashlib.sha256(subject.encode()).digest(), np.uint32).tolist()
    purposes = ("person", "shape", "tissue", "lesion", "image", "outcome")
    children = np.random.SeedSequence([seed, *words]).spawn(len(purposes))
    return {p: np.random.default_rng(child) for p, child in zip(purposes, children, strict=True)}


def draw_person(rng: np.random.Generator, subject: str, group: str, known: tuple[str, ...], effects: Effects) -> Person:
    """Age, sex, site, anatomy and lesion, independent of each other within a group."""
    ages = {
        "healthy": effects.healthy_age,
        "dementia": effects.dementia_age,
        "glioma": effects.glioma_age,
        "stroke": effects.stroke_age,
    }
    age = round(float(rng.uniform(*ages[group])), 1)
    sex = "FM"[int(rng.integers(2))]
    site = SITES[int(rng.integers(len(SITES)))]
    anatomy = known[int(rng.integers(len(known)))]
    normal = float(rng.standard_normal())
    mutant = bool(rng.random() < effects.idh_mutant_share)
    low, high = np.log(effects.stroke_days)
    days = round(float(np.exp(rng.uniform(low, high))), 2)
    volume = {
        "glioma": float(np.clip(effects.tumour_median_ml * np.exp(effects.tumour_scatter * normal), 8, 160)),
        "stroke": float(np.clip(effects.stroke_median_ml * np.exp(effects.stroke_scatter * normal), 2, 120)),
    }
    return Person(subject, group, age, sex, site, anatomy, mutant and group == "glioma", volume.get(group, 0.0), days)


def ventricle_target_ml(age: float, demented: bool, effects: Effects) -> float:
    """Median ventricle volume: V20 (V90 / V20)^((age - 20) / 70), times the factor of dementia."""
    ratio = effects.ventricle_ml_at_90 / effects.ventricle_ml_at_20
    median = effects.ventricle_ml_at_20 * float(ratio ** ((age - 20) / 70))
    return median * (effects.ventricle_dementia if demented else 1.0)


def make_subject(
    subject: str, group: str, seed: int, spacing_mm: float, folder: Path | None, effects: Effects
) -> Subject:
    """Everything of one subject. Equal arguments give equal bytes, in any process."""
    rng = streams(seed, subject)
    person = draw_person(rng["person"], subject, group, anatomies.names(folder), effects)
    base = anatomies.load(person.anatomy, folder)
    lesion = _lesion(rng["lesion"], base, person, effects)
    velocity, scale = _shape(rng["shape"], base, person, lesion, folder, effects)
    turn = np.radians(effects.head_turn_deg) * rng["shape"].standard_normal(3)
    spacing = spacing_mm * np.array([person.site.in_plane, person.site.in_plane, person.site.through_plane])
    space = resample(base, lesion, deform.exponential(-velocity), scale, turn, spacing)
    fractions = _atrophy(rng["tissue"], space, volumes(base) * scale.prod(), person, effects)
    brain = (fractions[:3].sum(0) > 0.5) & (space.regions > 0)
    images = render(rng["image"], replace(space, fractions=fractions), lesion, person.site, CONTRASTS[group], effects)
    labels = _labels(space, lesion, brain) if lesion is not None else None
    row = _row(rng["outcome"], person, fractions, space.regions, labels, spacing, effects)
    return Subject(images, space.affine, brain, labels, row, fractions)


def _lesion(rng: np.random.Generator, base: Anatomy, person: Person, effects: Effects) -> Lesion | None:
    if person.group == "glioma":
        return grow_tumour(rng, base, person.lesion_ml, person.mutant, effects)
    if person.group == "stroke":
        return grow_infarct(rng, base, person.lesion_ml, person.days_since_stroke, effects)
    return None


@lru_cache(maxsize=3)
def _ventricle_push(name: str, folder: Path | None) -> tuple[deform.Field, np.ndarray, np.ndarray]:
    """Unit push of the ventricles without their temporal horns, and its curve from amplitude to ventricle volume."""
    base = anatomies.load(name, folder)
    region = base.regions == VENTRICLE
    body = region & ~binary_dilation(base.regions == MEDIAL_TEMPORAL, iterations=4)
    unit = deform.push(body, base.spacing_mm, PUSH_REACH_MM)
    return unit, *deform.growth_curve(base.fractions[0] * region, unit, base.spacing_mm)


def _shape(
    rng: np.random.Generator,
    base: Anatomy,
    person: Person,
    lesion: Lesion | None,
    folder: Path | None,
    effects: Effects,
) -> tuple[deform.Field, Float[np.ndarray, " 3"]]:
    """Velocity of the subject's shape (anatomy to subject) and the scale of its head along each axis."""
    log_scale = effects.head_scale_scatter * (rng.standard_normal() + 0.5 * rng.standard_normal(3))
    scale = np.exp(log_scale + effects.head_scale_male * (person.sex == "M"))
    if person.anatomy == "mni152" and folder is None:
        scale = scale * effects.template_scale
    unit, amplitudes, volumes = _ventricle_push(person.anatomy, folder)
    velocity = deform.random_velocity(rng, unit.shape[1:], effects.shape_smooth_mm, effects.shape_rms_mm)
    median = ventricle_target_ml(person.age, person.group == "dementia", effects)
    target = median * np.exp(effects.ventricle_scatter * rng.standard_normal())
    velocity += unit * np.float32(np.interp(target, volumes * scale.prod(), amplitudes))
    if lesion is not None and lesion.core.any():
        velocity += deform.push(lesion.core, base.spacing_mm, PUSH_REACH_MM) * np.float32(lesion.push_mm)
    return velocity, scale


def volumes(base: Anatomy) -> Float[np.ndarray, " 2"]:
    """Grey matter of the cortex and tissue of the medial temporal region of an anatomy, in ml."""
    voxel_ml = float(base.spacing_mm.prod()) / 1000
    cortex = base.fractions[1][base.regions == CORTEX].sum()
    temporal = base.fractions[1:3, base.regions == MEDIAL_TEMPORAL].sum()
    return np.array([cortex, temporal], float) * voxel_ml


def remaining(age: float, demented: bool, effects: Effects) -> tuple[float, float]:
    """Shares of cortex and medial temporal region left at an age: those of age and of dementia multiply."""
    years = max(age - 20, 0)
    cortex = (1 - effects.cortex_loss_per_year * years) * (1 - effects.cortex_dementia * demented)
    temporal = 1 - effects.medial_temporal_loss_per_year * years
    return cortex, temporal * (1 - effects.medial_temporal_dementia * demented)


def _atrophy(
    rng: np.random.Generator,
    space: Space,
    young_ml: Float[np.ndarray, " 2"],
    person: Person,
    effects: Effects,
) -> Float32[np.ndarray, "tissue i j k"]:
    """Bring cortex and medial temporal region to their share of the `young_ml` that the scaled anatomy has."""
    spacing = np.diag(space.affine)[:3]
    shares = remaining(person.age, person.group == "dementia", effects)
    scatters = (effects.cortex_scatter, effects.medial_temporal_scatter)
    plans = ((CORTEX, (1,), CORTEX_SMOOTH_MM), (MEDIAL_TEMPORAL, (1, 2), TEMPORAL_SMOOTH_MM))
    fractions = space.fractions
    for (code, tissues, smooth_mm), young, share, scatter in zip(plans, young_ml, shares, scatters, strict=True):
        region = space.regions == code
        now = float(fractions[list(tissues)][:, region].sum()) * float(spacing.prod()) / 1000
        target = young * share * np.exp(scatter * rng.standard_normal())
        loss = float(np.clip(1 - target / now, -0.3, 0.6))
        fractions = grow_csf(fractions, region, loss, smooth_mm / spacing, tissues)
    return fractions


def _labels(space: Space, lesion: Lesion, brain: Bool[np.ndarray, "i j k"]) -> UInt8[np.ndarray, "i j k"]:
    """Where the lesion fills half of a voxel: the label of its largest class."""
    largest = np.array(lesion.labels, np.uint8)[space.lesion.argmax(0)]
    return np.where((space.extent > 0.5) & brain, largest, 0).astype(np.uint8)


def _row(
    rng: np.random.Generator,
    person: Person,
    fractions: Float32[np.ndarray, "tissue i j k"],
    regions: UInt8[np.ndarray, "i j k"],
    labels: UInt8[np.ndarray, "i j k"] | None,
    spacing: Float[np.ndarray, " 3"],
    effects: Effects,
) -> dict[str, Any]:
    """The participants row; volumes are measured in the subject's own images."""
    voxel_ml = float(spacing.prod()) / 1000
    glioma, stroke = person.group == "glioma", person.group == "stroke"
    tissue = fractions[1] + fractions[2]
    measured = {
        "brain_ml": tissue[regions > 0].sum(),
        "cortex_ml": fractions[TISSUES.index("grey")][regions == CORTEX].sum(),
        "ventricle_ml": fractions[0][regions == VENTRICLE].sum(),
        "medial_temporal_ml": tissue[regions == MEDIAL_TEMPORAL].sum(),
    }
    row: dict[str, Any] = {
        "participant_id": f"sub-{person.subject}",
        "age": person.age,
        "sex": person.sex,
        "group": person.group,
        "diagnosis": person.group if person.group in ("healthy", "dementia") else None,
        "site": person.site.name,
        "anatomy": person.anatomy,
        "idh": ("mutant" if person.mutant else "wildtype") if glioma else None,
        "survival_days": None,
        "event": None,
        "tumour_ml": None,
        "days_since_stroke": person.days_since_stroke if stroke else None,
        "stroke_ml": None,
        **{name: round(float(value) * voxel_ml, 3) for name, value in measured.items()},
    }
    if labels is not None:
        volume = round(float((labels > 0).sum()) * voxel_ml, 3)
        row["tumour_ml" if glioma else "stroke_ml"] = volume
        if glioma:
            eta = log_hazard(volume, person.age, person.mutant, effects)
            row["survival_days"], row["event"] = draw_survival(rng, eta, effects)
    return row
