"""Signal equations against numbers worked by hand, and the noise against the Rayleigh law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from braindino.synthesis.acquire import acquire, interpolation_matrix, smooth_field
from braindino.synthesis.anatomy import area_matrix, mixture
from braindino.synthesis.contrast import MATERIALS, Material, Sequence, mix, signal, with_gadolinium
from braindino.synthesis.sites import SITES


def test_equations_by_hand() -> None:
    material = Material(t1_ms=1000, t2_ms=100, pd=0.8)
    # TR = T1 ln 2 gives E1 = 1/2; TE = T2 ln 2 halves the signal.
    tr, te = 1000 * math.log(2), 100 * math.log(2)
    assert signal(Sequence("spin_echo", tr, te), material) == pytest.approx(0.8 * 0.5 * 0.5)
    # a = 60 degrees: sin a (1 - 1/2) / (1 - 1/2 * 1/2) = (sqrt 3 / 2) * 2/3
    spoiled = signal(Sequence("gradient_echo", tr, te, flip_deg=60), material)
    assert spoiled == pytest.approx(0.8 * 0.5 * math.sqrt(3) / 2 * 2 / 3)
    # TR = 2 T1 ln 2 gives E1 = 1/4, TI = T1 ln 2 gives 1 - 2/2 + 1/4
    inverted = Sequence("inversion_recovery", 2 * tr, te, ti_ms=tr)
    assert signal(inverted, material) == pytest.approx(0.8 * 0.25 * 0.5)
    prepared = Sequence("prepared_gradient_echo", 2 * tr, te, ti_ms=tr, flip_deg=30)
    assert signal(prepared, material) == pytest.approx(0.8 * 0.25 * 0.5 * 0.5)


def test_gadolinium_by_hand() -> None:
    # 1 / T1' = 1 / 1 s + 4.5 * 2 / s = 10 / s
    assert with_gadolinium(Material(1000, 100, 1, 2.0)).t1_ms == pytest.approx(100)
    assert with_gadolinium(MATERIALS["white"]).t1_ms == pytest.approx(MATERIALS["white"].t1_ms)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_order_of_tissues(site) -> None:
    def of(contrast: str, *names: str) -> list[float]:
        return [abs(signal(site.sequences[contrast], MATERIALS[name])) for name in names]

    csf, grey, white = of("T1w", "csf", "grey", "white")
    assert white > grey > csf
    csf, grey, white, oedema = of("T2w", "csf", "grey", "white", "oedema")
    assert csf > oedema > grey > white
    csf, grey, white, oedema, infarct, cavity = of("FLAIR", "csf", "grey", "white", "oedema", "infarct", "cavity")
    assert csf < cavity < white < grey < oedema
    assert infarct > 1.3 * grey
    rim = abs(signal(site.sequences["T1ce"], with_gadolinium(MATERIALS["rim"])))
    assert rim > 1.15 * of("T1w", "white")[0] > of("T1w", "rim")[0]


def test_partial_volume_mixes_signed_signals() -> None:
    materials = (MATERIALS["csf"], MATERIALS["white"])
    sequence = SITES[0].sequences["FLAIR"]
    half = np.full((2, 1, 1, 1), 0.5, np.float32)
    expected = (signal(sequence, materials[0]) + signal(sequence, materials[1])) / 2
    assert mix(half, materials, sequence)[0, 0, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"tr_ms": 0.0}, {"flip_deg": 0.0}, {"kind": "inversion_recovery"}, {"slice_mm": -1.0}]
)
def test_impossible_sequences(wrong) -> None:
    with pytest.raises(ValueError, match="must"):
        Sequence(**{"kind": "spin_echo", "tr_ms": 500.0, "te_ms": 10.0, **wrong})


def test_noise_is_rician() -> None:
    rng = np.random.default_rng(0)
    shape, ones = (40, 40, 40), np.ones((40, 40, 40), np.float32)
    air = acquire(rng, np.zeros(shape, np.float32), ones, 3.0, 1.0)
    assert air.mean() / air.std() == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.01)
    assert stats.kstest(air.ravel()[::8], stats.rayleigh(scale=3.0).cdf).pvalue > 1e-3
    bright = acquire(rng, 300 * ones, ones, 3.0, 1.0)
    assert bright.std() == pytest.approx(3.0, rel=0.02)
    assert bright.mean() == pytest.approx(300 + 9 / 600, abs=0.05)


def test_thick_slices_keep_a_ramp_and_smooth_noise() -> None:
    ramp = np.broadcast_to(np.arange(30, dtype=np.float32) + 10, (16, 16, 30)).copy()
    thick = acquire(np.random.default_rng(0), ramp, np.ones_like(ramp), 1e-4, 3.0)
    assert np.allclose(thick[..., 2:-2], ramp[..., 2:-2], atol=1e-2)
    assert np.allclose(interpolation_matrix(10, 30, 3.0).sum(1), 1)


def test_area_matrix_by_hand() -> None:
    assert np.allclose(area_matrix(3, 1.5), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])


def test_mixture_by_hand() -> None:
    values = np.array([0.0, 10, 15, 20, 25, 30, 99], np.float32).reshape(7, 1, 1)
    csf, grey, white = mixture(values, [10.0, 20.0, 30.0])[..., 0, 0]
    assert np.allclose(csf, [1, 1, 0.5, 0, 0, 0, 0])
    assert np.allclose(grey, [0, 0, 0.5, 1, 0.5, 0, 0])
    assert np.allclose(white, [0, 0, 0, 0, 0.5, 1, 1])


def test_bias_field_has_the_documented_spread() -> None:
    field = np.log(smooth_field(np.random.default_rng(1), (30, 30, 30), 0.1))
    assert field.std() == pytest.approx(0.1, rel=1e-4)
    assert max(np.abs(np.diff(field, axis=a)).max() for a in range(3)) < 0.1
