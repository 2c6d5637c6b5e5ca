"""Whole subjects on real anatomy: the documented effects are in the images."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindino.synthesis import anatomy as anatomies
from braindino.synthesis.anatomy import MEDIAL_TEMPORAL, VENTRICLE
from braindino.synthesis.effects import Effects
from braindino.synthesis.lesions import grow_infarct, grow_tumour
from braindino.synthesis.subject import draw_person, make_subject, streams, ventricle_target_ml

pytest.importorskip("nilearn")
SPACING = 3.0
CALM = replace(Effects(), ventricle_scatter=0.0, cortex_scatter=0.0, medial_temporal_scatter=0.0)


def someone(group: str, age: float, number: int = 3):
    ages = {"healthy_age": (age, age), "dementia_age": (age, age)}
    return make_subject(f"same{number:03d}", group, 0, SPACING, None, replace(CALM, **ages))


@pytest.mark.parametrize("name", ["mni152", "itk_head"])
def test_anatomies_are_plausible(name: str) -> None:
    base = anatomies.load(name, None)
    ml = base.spacing_mm.prod() / 1000
    assert base.fractions.min() >= 0 and base.fractions.sum(0).max() < 1.001
    csf, grey, white = base.fractions[:3].sum((1, 2, 3)) * ml
    assert 100 < csf < 400 and 500 < grey < 1200 and 400 < white < 800
    assert 8 < (base.regions == VENTRICLE).sum() * ml < 40
    left = np.argwhere(base.regions == MEDIAL_TEMPORAL)[:, 0] < np.argwhere(base.regions > 0)[:, 0].mean()
    assert 0.35 < left.mean() < 0.65


def test_unknown_anatomy_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no anatomy 'colin'"):
        anatomies.load("colin", None)
    with pytest.raises(ValueError, match="no label maps"):
        anatomies.names(tmp_path)


def test_age_and_dementia_change_the_measured_volumes() -> None:
    young, old, demented = someone("healthy", 25), someone("healthy", 75), someone("dementia", 75)
    assert young.row["anatomy"] == old.row["anatomy"] == demented.row["anatomy"]
    for person, age, ill in ((young, 25, False), (old, 75, False), (demented, 75, True)):
        assert person.row["ventricle_ml"] == pytest.approx(ventricle_target_ml(age, ill, CALM), rel=0.25)
    assert young.row["ventricle_ml"] < old.row["ventricle_ml"] < demented.row["ventricle_ml"]
    cortex = old.row["cortex_ml"] / young.row["cortex_ml"]
    assert cortex == pytest.approx((1 - 0.0035 * 55) / (1 - 0.0035 * 5), abs=0.03)
    temporal = demented.row["medial_temporal_ml"] / old.row["medial_temporal_ml"]
    assert temporal == pytest.approx(1 - CALM.medial_temporal_dementia, abs=0.03)
    assert old.row["medial_temporal_ml"] < young.row["medial_temporal_ml"]


def test_the_images_show_it() -> None:
    """Dark T1w voxels in the brain (CSF) increase, with nothing but the image and the mask looked at."""

    def dark(subject) -> float:
        values = subject.images["T1w"][subject.brain_mask]
        return float((values < 0.55 * np.percentile(values, 90)).mean())

    assert dark(someone("healthy", 25)) < dark(someone("healthy", 75)) < dark(someone("dementia", 75))


def test_a_subject_depends_on_seed_and_name_only() -> None:
    first = make_subject("healthy001", "healthy", 7, SPACING, None, Effects())
    make_subject("healthy002", "healthy", 7, SPACING, None, Effects())
    again = make_subject("healthy001", "healthy", 7, SPACING, None, Effects())
    assert first.row == again.row
    assert all(first.images[c].tobytes() == again.images[c].tobytes() for c in first.images)
    other = make_subject("healthy001", "healthy", 8, SPACING, None, Effects())
    assert other.row["age"] != first.row["age"]


def test_demography_is_not_confounded() -> None:
    effects, known = Effects(), ("mni152", "itk_head")

    def people(group: str):
        ids = [f"{group}{n:03d}" for n in range(1, 600)]
        return [draw_person(streams(0, i)["person"], i, group, known, effects) for i in ids]

    healthy, demented = people("healthy"), people("dementia")
    old = [p.age for p in healthy if p.age >= 55]
    assert np.mean(old) == pytest.approx(np.mean([p.age for p in demented]), abs=1.5)
    for group in (healthy, demented):
        assert np.mean([p.sex == "M" for p in group]) == pytest.approx(0.5, abs=0.07)
        assert np.mean([p.anatomy == "mni152" for p in group]) == pytest.approx(0.5, abs=0.07)
        assert np.mean([p.site.name == "north" for p in group]) == pytest.approx(0.25, abs=0.06)
    assert min(p.age for p in healthy) >= 20 and max(p.age for p in demented) <= 90


@pytest.mark.parametrize("mutant", [False, True])
def test_tumour_is_nested_and_in_white_matter(mutant: bool) -> None:
    base = anatomies.load("mni152", None)
    lesion = grow_tumour(np.random.default_rng(3), base, 50.0, mutant, replace(Effects(), rim_absent_mutant=0.0))
    necrosis, oedema, rim = lesion.fractions
    assert lesion.fractions.min() >= 0 and lesion.fractions.sum(0).max() <= 1 + 1e-5
    assert np.allclose(necrosis + oedema + rim, lesion.extent, atol=1e-5)
    ml = base.spacing_mm.prod() / 1000
    assert (lesion.extent > 0.5).sum() * ml == pytest.approx(50, rel=0.2)
    inside = lesion.extent > 0.5
    assert (base.regions[inside] > 0).mean() > 0.98
    brain_share = base.fractions[2][base.regions > 0].mean()
    assert base.fractions[2][inside].mean() > 1.3 * brain_share
    assert necrosis[~lesion.core].sum() < 0.2 * necrosis.sum()


def test_tumours_are_not_balls() -> None:
    base = anatomies.load("mni152", None)
    lesion = grow_tumour(np.random.default_rng(1), base, 60.0, False, Effects())
    points = np.argwhere(lesion.extent > 0.5) * base.spacing_mm
    radius = (3 * 60000 / (4 * np.pi)) ** (1 / 3)
    assert (np.linalg.norm(points - points.mean(0), axis=1) > 1.05 * radius).mean() > 0.1


def test_idh_thins_the_rim_and_calms_the_core() -> None:
    base = anatomies.load("mni152", None)

    def mean(mutant: bool) -> tuple[float, float]:
        grown = [grow_tumour(np.random.default_rng(n), base, 50.0, mutant, Effects()) for n in range(4)]
        shares = [g.fractions[2].sum() / (g.fractions[0] + g.fractions[2]).sum() for g in grown]
        return float(np.mean(shares)), float(np.mean([g.texture[g.core].std() for g in grown]))

    (rim, texture), (thin, calm) = mean(False), mean(True)
    assert thin < 0.6 * rim
    assert calm < 0.5 * texture


def test_glioma_images_show_the_regions() -> None:
    effects = replace(Effects(), idh_mutant_share=0.0)
    subject = make_subject("glioma002", "glioma", 0, SPACING, None, effects)
    labels, images = subject.label_map, subject.images
    assert labels is not None and tuple(images) == ("T1w", "T1ce", "T2w", "FLAIR")
    assert set(np.unique(labels)) == {0, 1, 2, 3} and not np.any(labels[~subject.brain_mask])
    white = (subject.fractions[2] > 0.9) & (labels == 0)
    level = {
        c: {n: float(image[labels == n].mean() / image[white].mean()) for n in (1, 2, 3)} for c, image in images.items()
    }
    assert level["T1ce"][3] > 1.2 * level["T1w"][3]
    assert level["T1ce"][1] < 1 < level["T1ce"][3]
    assert level["FLAIR"][2] > 1.3
    assert level["T2w"][1] > level["T2w"][2] > 1.2
    assert subject.row["tumour_ml"] == pytest.approx(
        (labels > 0).sum() * abs(np.linalg.det(subject.affine)) / 1000, rel=1e-3
    )


def test_stroke_ages() -> None:
    base, effects = anatomies.load("mni152", None), Effects()
    fresh, acute, chronic = (
        grow_infarct(np.random.default_rng(2), base, 40.0, days, effects) for days in (0.25, 4.0, 700.0)
    )
    total = [lesion.fractions.sum((1, 2, 3)) for lesion in (fresh, acute, chronic)]
    assert total[0][0] < 0.3 * fresh.extent.sum() < total[1][0]
    assert total[2][1] > 0.3 * chronic.extent.sum() and total[2][2] > 0 and total[1][1] < 0.01 * total[1][0]
    assert acute.push_mm > fresh.push_mm > 0 > chronic.push_mm
    assert np.array_equal(fresh.extent, chronic.extent)


def test_label_maps_of_the_user() -> None:
    folder = os.environ.get("BRAINDINO_LABEL_MAPS")
    if not folder:
        pytest.skip("BRAINDINO_LABEL_MAPS names no folder of label maps")
    name = anatomies.names(Path(folder))[0]
    base = anatomies.load(name, Path(folder))
    ml = base.spacing_mm.prod() / 1000
    assert 4 < (base.regions == VENTRICLE).sum() * ml < 150
    assert base.fractions[3].sum() * ml > 200
    subject = make_subject("glioma001", "glioma", 0, SPACING, Path(folder), Effects())
    assert subject.brain_mask.sum() * abs(np.linalg.det(subject.affine)) / 1e6 > 0.9
