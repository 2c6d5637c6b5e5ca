"""MR signal of each tissue by the textbook equations, and mixtures of tissues by their fractions.

With E1 = exp(-TR / T1), magnetisation M by sequence (Haacke et al., Magnetic Resonance Imaging, 1999; Bernstein et
al., Handbook of MRI Pulse Sequences, 2004):

- spoiled gradient echo: PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE / T2)
- spin echo: PD (1 - E1) exp(-TE / T2)
- inversion recovery (spin echo readout): PD (1 - 2 exp(-TI / T1) + E1) exp(-TE / T2), signed
- prepared gradient echo (MPRAGE, small flip angle): PD sin(a) (1 - 2 exp(-TI / T1) + E1) exp(-TE / T2), signed

Signed signals mix within a voxel, the scanner shows the magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

Kind = Literal["gradient_echo", "spin_echo", "inversion_recovery", "prepared_gradient_echo"]


@dataclass(frozen=True)
class Material:
    """Relaxation times at 3 T and proton density relative to water."""

    t1_ms: float
    t2_ms: float
    pd: float
    gadolinium_mm: float = 0.0
    """Concentration of contrast agent (mmol/l) after injection: 0 behind an intact blood-brain barrier."""


@dataclass(frozen=True)
class Sequence:
    """How one contrast is acquired."""

    kind: Kind
    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0
    flip_deg: float = 90.0
    slice_mm: float = 1.0
    """Slice thickness; slices thinner than the grid stay as they are."""

    def __post_init__(self) -> None:
        if min(self.tr_ms, self.te_ms, self.slice_mm) <= 0 or not 0 < self.flip_deg <= 180:
            raise ValueError(f"{self}: times and thickness must be positive, the flip angle above 0 and at most 180")
        if self.kind in ("inversion_recovery", "prepared_gradient_echo") and not 0 < self.ti_ms < self.tr_ms:
            raise ValueError(f"{self}: the inversion time must lie between 0 and TR")


MATERIALS: Mapping[str, Material] = {
    "csf": Material(4200, 1500, 1.00),
    "grey": Material(1400, 95, 0.82),
    "white": Material(850, 70, 0.71),
    "bone": Material(400, 12, 0.10),
    "soft": Material(850, 45, 0.75, 0.1),
    "vessel": Material(1700, 60, 0.75, 0.8),
    "necrosis": Material(2600, 260, 0.95, 0.02),
    "oedema": Material(1550, 150, 0.84),
    "rim": Material(1500, 115, 0.84, 0.35),
    "infarct": Material(1700, 170, 0.86),
    "cavity": Material(3900, 1200, 1.00),
    "gliosis": Material(1500, 160, 0.82),
}
"""Literature means at 3 T (Wansapura 1999, Stanisz 2005, Lu 2005; tumour and oedema: Steen 1992), rounded."""
RELAXIVITY = 4.5
"""r1 of gadolinium chelates in plasma at 3 T, per second and mmol/l (Rohrer 2005)."""


def with_gadolinium(material: Material) -> Material:
    """T1 after injection: 1 / T1' = 1 / T1 + r1 C."""
    rate = 1 / material.t1_ms + RELAXIVITY * material.gadolinium_mm / 1000
    return replace(material, t1_ms=1 / rate)


def signal(sequence: Sequence, material: Material) -> float:
    """Signed signal of a pure voxel, relative to the full magnetisation of water."""
    e1 = math.exp(-sequence.tr_ms / material.t1_ms)
    inverted = 1 - 2 * math.exp(-sequence.ti_ms / material.t1_ms) + e1
    angle = math.radians(sequence.flip_deg)
    weight = {
        "gradient_echo": math.sin(angle) * (1 - e1) / (1 - math.cos(angle) * e1),
        "spin_echo": 1 - e1,
        "inversion_recovery": inverted,
        "prepared_gradient_echo": math.sin(angle) * inverted,
    }[sequence.kind]
    return material.pd * weight * math.exp(-sequence.te_ms / material.t2_ms)


def mix(
    fractions: Float32[np.ndarray, "material i j k"], materials: tuple[Material, ...], sequence: Sequence
) -> Float32[np.ndarray, "i j k"]:
    """Signed signal of partial volumes: sum over materials of fraction times signal."""
    signals = np.array([signal(sequence, material) for material in materials], np.float32)
    return np.asarray(np.tensordot(signals, fractions, 1), np.float32)
