"""Images of one subject: signal of the mixed tissues and lesion, then the scanner of the site."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from braindino.synthesis.acquire import acquire, smooth_field
from braindino.synthesis.anatomy import TISSUES
from braindino.synthesis.contrast import MATERIALS, Material, mix, with_gadolinium
from braindino.synthesis.effects import Effects
from braindino.synthesis.lesions import Lesion, smooth_noise
from braindino.synthesis.sites import Site
from braindino.synthesis.space import Space


def render(
    rng: np.random.Generator,
    space: Space,
    lesion: Lesion | None,
    site: Site,
    contrasts: tuple[str, ...],
    effects: Effects,
) -> dict[str, Float32[np.ndarray, "i j k"]]:
    """Each contrast as the scanner of `site` shows it, with a mean of `site.gain` over the brain.

    The lesion replaces healthy tissue by its shares; relaxation times vary between subjects, proton density varies
    smoothly within one, and the receive field is common to the contrasts of a session.
    """
    spacing = np.diag(space.affine)[:3]
    shares = space.lesion
    fractions = np.concatenate([space.fractions * np.clip(1 - shares.sum(0), 0, 1), shares])
    materials = [MATERIALS[name] for name in TISSUES] + list(lesion.materials if lesion else ())
    varied = tuple(_varied(rng, material, effects.relaxation_scatter) for material in materials)
    shape = space.regions.shape
    bias = smooth_field(rng, shape, effects.bias_log_sd)
    texture = 1 + effects.tissue_texture * smooth_noise(rng, shape, 3 / spacing)
    texture += space.texture
    brain = space.regions > 0
    images = {}
    for contrast in contrasts:
        sequence = site.sequences[contrast]
        given = tuple(with_gadolinium(m) for m in varied) if contrast == "T1ce" else varied
        signal = mix(fractions, given, sequence) * texture
        mean = float(np.abs(signal[brain]).mean())
        noisy = acquire(rng, signal, bias, site.noise * mean, sequence.slice_mm / float(spacing[2]))
        images[contrast] = np.asarray(noisy * (site.gain / mean), np.float32)
    return images


def _varied(rng: np.random.Generator, material: Material, scatter: float) -> Material:
    t1, t2, pd = np.exp(scatter * rng.standard_normal(3))
    return replace(material, t1_ms=material.t1_ms * t1, t2_ms=material.t2_ms * t2, pd=material.pd * pd)
