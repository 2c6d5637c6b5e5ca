"""Every effect size of the synthetic subjects in one frozen dataclass: what an image model can learn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effects:
    """Known truth. Lengths in mm, volumes in ml, ages in years, shares between 0 and 1; all scatters are one sd."""

    healthy_age: tuple[float, float] = (20.0, 90.0)
    """Uniform range of healthy ages. Healthy and demented subjects above 55 have the same age distribution."""
    dementia_age: tuple[float, float] = (55.0, 90.0)
    """Uniform range of ages with dementia: compare with the healthy of 55 and more to keep age out of the question."""
    glioma_age: tuple[float, float] = (30.0, 85.0)
    stroke_age: tuple[float, float] = (45.0, 90.0)

    head_scale_scatter: float = 0.02
    """Scatter of the logarithm of head length; each axis also gets half of it on its own."""
    head_scale_male: float = 0.03
    """Added to the logarithm of head length in men, so about 9 % of volume."""
    template_scale: float = 0.93
    """The MNI152 brain is larger than an average one; its length is multiplied by this."""
    shape_rms_mm: float = 2.5
    """Root mean square of the random velocity, hence about of the displacement, within the head."""
    shape_smooth_mm: float = 18.0
    """Gaussian sd of that random field: the length over which neighbours move together."""

    ventricle_ml_at_20: float = 15.0
    ventricle_ml_at_90: float = 45.0
    """Median ventricle volume V(age) = V20 (V90 / V20)^((age - 20) / 70)."""
    ventricle_scatter: float = 0.22
    """Scatter of ln V between subjects of one age."""
    ventricle_dementia: float = 1.35
    """Factor on V in dementia."""

    cortex_loss_per_year: float = 0.0035
    """Share of cortical grey matter lost per year after 20."""
    cortex_scatter: float = 0.04
    """Scatter of the logarithm of the volume left."""
    cortex_dementia: float = 0.03
    """Further share lost in dementia."""
    medial_temporal_loss_per_year: float = 0.0025
    """Share of the medial temporal region lost per year after 20."""
    medial_temporal_scatter: float = 0.08
    medial_temporal_dementia: float = 0.20
    """Further share lost in dementia; CSF (the temporal horn and the sulci) takes the place."""

    tumour_median_ml: float = 55.0
    tumour_scatter: float = 0.5
    """Scatter of ln volume (enhancing rim + core + oedema); volumes are kept within 8 to 160 ml."""
    core_share: tuple[float, float] = (0.25, 0.5)
    """Uniform range of the core's share (necrosis + rim) of the whole tumour."""
    idh_mutant_share: float = 0.4
    rim_mm_wildtype: tuple[float, float] = (2.5, 4.5)
    rim_mm_mutant: tuple[float, float] = (0.8, 2.0)
    """Uniform range of the mean thickness of the enhancing rim."""
    rim_absent_mutant: float = 0.5
    """Share of mutant tumours without any enhancement."""
    core_texture_wildtype: float = 0.20
    core_texture_mutant: float = 0.05
    """Sd of the relative signal variation within the core: mutant cores are homogeneous."""
    mass_effect_mm: float = 3.0
    """Outward push at the surface of a tumour core; at its height also of a stroke at 3.5 days."""

    survival_median_days: float = 450.0
    """Median survival at the reference: 55 ml, 60 years, IDH wildtype."""
    survival_shape: float = 1.3
    """Weibull shape: S(t) = exp(-ln 2 (t / median)^shape exp(eta))."""
    log_hazard_per_doubling: float = 0.35
    """Added to eta per doubling of the tumour volume."""
    log_hazard_per_decade: float = 0.30
    """Added to eta per ten years of age."""
    log_hazard_mutant: float = -1.2
    """Added to eta where IDH is mutant."""
    follow_up_days: tuple[float, float] = (150.0, 2500.0)
    """Uniform range of the independent censoring time."""

    stroke_median_ml: float = 30.0
    stroke_scatter: float = 0.6
    stroke_days: tuple[float, float] = (0.25, 1000.0)
    """Log-uniform range of the time since onset."""
    oedema_rise_days: float = 1.0
    """T2 prolongation of an acute infarct rises as 1 - exp(-days / this)."""
    swelling_peak_days: float = 3.5
    """Swelling follows (d / p) exp(1 - d / p)."""
    cavity_days: float = 45.0
    """Share turned to CSF: d^3 / (d^3 + this^3); a gliotic rim remains."""
    gliosis_mm: float = 2.5

    bias_log_sd: float = 0.10
    """Sd of the logarithm of the smooth receive field within the field of view."""
    relaxation_scatter: float = 0.03
    """Scatter of ln T1, ln T2 and ln PD of each tissue between subjects."""
    tissue_texture: float = 0.02
    """Sd of the relative variation of proton density within a subject, correlated over about 6 mm."""
    head_turn_deg: float = 3.0
    """Scatter of each angle of the head in the scanner."""
