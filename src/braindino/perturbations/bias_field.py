"""Bias field: the receive coils see one side of the head better than the other."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre

from braindino.perturbations import generator, value_at, with_voxels
from braindino.types import Volume

SEVERITIES = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
UNIT = "amplitude: the field runs from 1 / (1 + amplitude) to 1 + amplitude"
ORDER = 3


def apply(volume: Volume, severity: int, seed: int) -> Volume:
    """y = x exp(ln(1 + amplitude) p), p a random polynomial of position that runs from -1 to 1 over the field of view.

    p = sum of c_abc P_a P_b P_c (Legendre polynomials of the three axes, a + b + c at most 3, c uniform within -1 to
    1), shifted and scaled. All contrasts of a session share the field, as they share coil and position. Form and order
    are those of MONAI's RandBiasField; the values behind the paper's bias field are not published.

    Raises:
        ValueError: a severity that is not in the table.
    """
    amplitude = value_at(SEVERITIES, severity)
    if severity == 0:
        return volume
    rng = generator(volume, seed, "bias_field")
    coefficients = rng.uniform(-1, 1, (ORDER + 1,) * 3)
    coefficients[np.indices(coefficients.shape).sum(axis=0) > ORDER] = 0
    coefficients[0, 0, 0] = 0
    x, y, z = (np.linspace(-1, 1, size) for size in volume.voxels.shape[1:])
    field = legendre.leggrid3d(x, y, z, coefficients)
    field = 2 * (field - field.min()) / max(float(np.ptp(field)), 1e-30) - 1
    changed = volume.voxels * np.exp(np.log1p(amplitude) * field).astype(np.float32)
    return with_voxels(volume, changed, f"perturbed: bias field, amplitude {amplitude:.0%}")
