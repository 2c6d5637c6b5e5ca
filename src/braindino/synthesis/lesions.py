"""Lesions grown in real white matter: a front whose speed depends on tissue, direction and smooth noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from braindino.synthesis.anatomy import DEEP_WHITE, VENTRICLE, Anatomy
from braindino.synthesis.contrast import MATERIALS, Material
from braindino.synthesis.effects import Effects

REACH_MM = 48.0
"""Half the edge of the box in which a lesion grows."""
TUMOUR_SPEED = (0.02, 0.25, 1.0)
"""Front speed in CSF, grey and white matter: glioma cells follow white matter (about 5 to 1, Swanson 2000)."""
INFARCT_SPEED = (0.02, 1.0, 0.8)


@dataclass(frozen=True)
class Lesion:
    """A lesion on the grid of its anatomy."""

    fractions: Float32[np.ndarray, "class i j k"]
    """Shares of each class; what is left of a voxel stays healthy."""
    materials: tuple[Material, ...]
    labels: tuple[int, ...]
    """Label of each class on file."""
    extent: Float32[np.ndarray, "i j k"]
    """Share of a voxel within the lesion, also where nothing shows yet."""
    core: Bool[np.ndarray, "i j k"]
    push_mm: float
    """Outward displacement at the surface of `core`; negative draws the surroundings in."""
    texture: Float32[np.ndarray, "i j k"]
    """Relative change of signal within the lesion, 0 elsewhere."""


def grow_tumour(rng: np.random.Generator, anatomy: Anatomy, volume_ml: float, mutant: bool, effects: Effects) -> Lesion:
    """Oedema, core and enhancing rim (BraTS-2023 labels 2, 1 and 3), nested.

    The whole tumour is what the front reaches first; the core is what a second, differently noisy front reaches
    first within it; the rim is the outer layer of the core with a thickness that varies along the surface.
    """
    box, seed = _place(rng, anatomy, anatomy.regions == DEEP_WHITE)
    arrival = _front(rng, anatomy, box, seed, TUMOUR_SPEED)
    spacing, shape = anatomy.spacing_mm, arrival.shape
    inside = anatomy.fractions[(slice(1, 3), *box)].sum(0)
    whole = _first(arrival, inside, volume_ml / (spacing.prod() / 1000))
    other = arrival * np.exp(0.35 * smooth_noise(rng, shape, 7 / spacing))
    share = rng.uniform(*effects.core_share)
    core = _first(np.where(whole, other, np.inf), inside, whole.sum() * share)
    rim = _rim_mm(rng, shape, spacing, mutant, effects)
    necrosis = core & (distance_transform_edt(core, spacing) > rim)
    w = _soft(whole, 1.6 / spacing) * (0.15 + 0.85 * inside)
    c = np.minimum(_soft(core, 0.9 / spacing), w)
    n = np.minimum(_soft(necrosis, 0.6 / spacing) if rim.any() else c, c)
    sd = effects.core_texture_mutant if mutant else effects.core_texture_wildtype
    texture = sd * smooth_noise(rng, shape, 2.5 / spacing) * c + 0.06 * smooth_noise(rng, shape, 5 / spacing) * (w - c)
    classes = ("necrosis", "oedema", "rim")
    fields = (n, w - c, c - n, w, texture)
    return _lesion(anatomy, box, fields, classes, (1, 2, 3), core, effects.mass_effect_mm)


def grow_infarct(rng: np.random.Generator, anatomy: Anatomy, volume_ml: float, days: float, effects: Effects) -> Lesion:
    """An infarct of grey and white matter as it looks `days` after onset; label 1.

    Acute: water rises as 1 - exp(-d / rise) and the tissue swells; later a cavity of CSF takes d^3 / (d^3 + c^3) of
    the middle, a gliotic rim remains, and the surroundings are drawn in.
    """
    lateral = (anatomy.regions != 0) & (anatomy.regions != VENTRICLE) & (anatomy.fractions[1] > 0.4)
    box, seed = _place(rng, anatomy, lateral & (distance_transform_edt(anatomy.regions > 0, anatomy.spacing_mm) > 6))
    arrival = _front(rng, anatomy, box, seed, INFARCT_SPEED)
    spacing = anatomy.spacing_mm
    inside = anatomy.fractions[(slice(1, 3), *box)].sum(0)
    whole = _first(arrival, inside, volume_ml / (spacing.prod() / 1000))
    w = _soft(whole, 0.8 / spacing) * inside
    depth = distance_transform_edt(whole, spacing)
    middle = np.minimum(_soft(depth > effects.gliosis_mm, 0.8 / spacing), w)
    hollow = days**3 / (days**3 + effects.cavity_days**3)
    wet = 1 - math.exp(-days / effects.oedema_rise_days)
    cavity, glia = middle * hollow, (w - middle) * hollow
    acute = w * (1 - hollow) * wet
    swelling = days / effects.swelling_peak_days
    push = effects.mass_effect_mm * (swelling * math.exp(1 - swelling) - 0.5 * hollow)
    texture = 0.06 * smooth_noise(rng, w.shape, 4 / spacing) * w
    fields = (acute, cavity, glia, w, texture)
    return _lesion(anatomy, box, fields, ("infarct", "cavity", "gliosis"), (1, 1, 1), whole, push)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sd_voxels: Float[np.ndarray, " 3"]
) -> Float32[np.ndarray, "i j k"]:
    """Gaussian noise of correlation sd `sd_voxels`, mean 0 and sd 1."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sd_voxels, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


Box = tuple[slice, slice, slice]


def _place(rng: np.random.Generator, anatomy: Anatomy, where: Bool[np.ndarray, "i j k"]) -> tuple[Box, np.ndarray]:
    """A random voxel of `where` and the box around it; the voxel relative to the box."""
    voxels = np.argwhere(where)
    seed = voxels[rng.integers(len(voxels))]
    reach = np.ceil(REACH_MM / anatomy.spacing_mm).astype(int)
    low = np.maximum(seed - reach, 0)
    high = np.minimum(seed + reach + 1, anatomy.regions.shape)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), seed - low


def _front(
    rng: np.random.Generator, anatomy: Anatomy, box: Box, seed: np.ndarray, speeds: tuple[float, float, float]
) -> Float32[np.ndarray, "i j k"]:
    """Arrival time of a front that starts at `seed`: shortest paths over 26 neighbours on a grid of about 3 mm."""
    spacing = anatomy.spacing_mm
    factor = np.maximum(np.rint(3.0 / spacing), 1).astype(int)
    half = factor // 2
    picks = tuple(slice(h, None, f) for h, f in zip(half, factor, strict=True))
    tissue = anatomy.fractions[(slice(0, 3), *box)]
    tissue = np.stack([gaussian_filter(part, factor / 3) for part in tissue])[(slice(None), *picks)]
    speed = np.tensordot(np.array(speeds, np.float32), tissue, 1) + np.float32(1e-3)
    speed = speed * np.exp(0.45 * smooth_noise(rng, speed.shape, 7 / (spacing * factor)))
    axis = rng.standard_normal(3)
    graph = _graph(speed, spacing * factor, axis / np.linalg.norm(axis))
    start = np.minimum(seed // factor, np.array(speed.shape) - 1)
    times = dijkstra(graph, indices=np.ravel_multi_index(tuple(start), speed.shape)).reshape(speed.shape)
    shape = anatomy.regions[box].shape
    fine = zoom(
        times.astype(np.float32), np.array(shape) / np.array(times.shape), order=1, grid_mode=True, mode="nearest"
    )
    assert fine.shape == shape
    return np.asarray(gaussian_filter(fine, 0.7) * np.exp(0.10 * smooth_noise(rng, shape, 2.5 / spacing)), np.float32)


def _graph(speed: Float32[np.ndarray, "i j k"], spacing: np.ndarray, axis: np.ndarray) -> csr_array:
    """Edges between neighbours, cost = length / mean speed, dearer by up to 60 % across `axis`."""
    index = np.arange(speed.size).reshape(speed.shape)
    rows, columns, costs = [], [], []
    steps = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if (a, b, c) > (0, 0, 0)]
    for step in steps:
        here = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, speed.shape, strict=True))
        there = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, speed.shape, strict=True))
        vector = np.array(step) * spacing
        length = float(np.linalg.norm(vector))
        across = 1 + 0.6 * (1 - (vector @ axis / length) ** 2)
        rows.append(index[here].ravel())
        columns.append(index[there].ravel())
        costs.append((2 * length * across / (speed[here] + speed[there])).ravel())
    r, c, w = np.concatenate(rows), np.concatenate(columns), np.concatenate(costs).astype(np.float64)
    return csr_array((np.r_[w, w], (np.r_[r, c], np.r_[c, r])), shape=(speed.size, speed.size))


def _first(
    arrival: Float[np.ndarray, "i j k"], weight: Float[np.ndarray, "i j k"], voxels: float
) -> Bool[np.ndarray, "i j k"]:
    """The earliest voxels whose `weight` (tissue share) sums to `voxels`."""
    order = np.argsort(arrival, axis=None, kind="stable")
    sums = np.cumsum(weight.ravel()[order])
    chosen = np.zeros(arrival.size, bool)
    chosen[order[: int(np.searchsorted(sums, voxels)) + 1]] = True
    return np.asarray(chosen.reshape(arrival.shape) & (weight > 0.2) & np.isfinite(arrival))


def _rim_mm(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: np.ndarray, mutant: bool, effects: Effects
) -> Float32[np.ndarray, "i j k"]:
    """Local thickness of the rim; 0 everywhere for a tumour that does not enhance."""
    low, high = effects.rim_mm_mutant if mutant else effects.rim_mm_wildtype
    mean, absent = rng.uniform(low, high), rng.random()
    noise = smooth_noise(rng, shape, 5 / spacing)
    if mutant and absent < effects.rim_absent_mutant:
        return np.zeros(shape, np.float32)
    return np.asarray(mean * np.exp(0.35 * noise), np.float32)


def _soft(mask: Bool[np.ndarray, "i j k"], sd_voxels: np.ndarray) -> Float32[np.ndarray, "i j k"]:
    return np.asarray(gaussian_filter(mask.astype(np.float32), sd_voxels), np.float32)


def _lesion(
    anatomy: Anatomy,
    box: Box,
    fields: tuple[Float32[np.ndarray, "a b c"], ...],
    classes: tuple[str, ...],
    labels: tuple[int, ...],
    core: Bool[np.ndarray, "a b c"],
    push_mm: float,
) -> Lesion:
    """Put the arrays of the box (a share per class, extent, texture) back on the whole grid."""
    whole = np.zeros((len(fields), *anatomy.regions.shape), np.float32)
    whole[(slice(None), *box)] = np.stack(fields)
    filled = np.zeros(anatomy.regions.shape, bool)
    filled[box] = core
    return Lesion(
        whole[:-2], tuple(MATERIALS[c] for c in classes), labels, whole[-2], filled, float(push_mm), whole[-1]
    )
