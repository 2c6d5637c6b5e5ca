"""A label map of another release of BraTS is refused, by name of the value and of the release, where it is used."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from braindino import catalog
from braindino.heads import check_label_map, written_and_scored
from braindino.layouts.brats import RELEASES
from braindino.layouts.labels import SCHEMES
from braindino.pipeline.check import check
from braindino.volume.io import read_case, write_nifti
from faults import Count
from phantom import head

PUBLISHED = {
    "BraTS to 2021": (1, 2, 4),
    "BraTS 2023": (1, 2, 3),
    "BraTS 2024 after treatment": (1, 2, 3, 4),
    "BraTS-MEN-RT": (1,),
    "ATLAS": (1,),
    "all but the core": (2, 4),
    "an Atlas of 95": (2, 3, 17, 53),
    "negative": (-1, 1),
}
"""Values of label maps that a user may give to any cohort."""
COHORTS = [name for name in RELEASES if name in catalog.names("cohorts")]


def place(root, cohort, number, labels):
    """One case folder of a release with all its contrasts."""
    release, volume = RELEASES[cohort], head()
    name = release.example.replace("00000", f"{number:05d}").replace("00002", f"{number:05d}")
    name = name.replace("00004", f"{number:05d}")
    for contrast in release.contrasts:
        write_nifti(root / name / f"{name}{release.separator}{contrast}.nii", volume.voxels[0], volume.affine)
    write_nifti(root / name / f"{name}{release.separator}seg.nii", labels, volume.affine)


@pytest.mark.parametrize("cohort", COHORTS)
def test_every_release_with_every_other_label_map(tmp_path, cohort, capsys):
    scheme, count = RELEASES[cohort].scheme, Count(10, f"label maps of every release in {cohort}")
    known = set(SCHEMES[scheme].values)
    task = None
    for number, ((_, values), size) in enumerate(itertools.product(PUBLISHED.items(), (1, 3))):
        labels = np.zeros(head().voxels.shape[1:], np.int16)
        for place_of, value in enumerate(values):
            labels[15 + place_of * size : 15 + (place_of + 1) * size, 20:24, 15:20] = value
        place(tmp_path, cohort, number, labels)
    cases = catalog.load("cohorts", cohort).cases(tmp_path, lambda line: None)
    task = catalog.load("tasks", "tumour_segmentation").build(cohort, cases, 0)
    problems = " ".join(check(f"{cohort}={tmp_path}"))
    for case, ((_, values), _) in zip(cases, itertools.product(PUBLISHED.items(), (1, 3)), strict=True):
        original, strange = read_case(case.scans), sorted(set(values) - known)
        nothing = np.zeros(original.voxels.shape[1:], np.uint8)
        if not strange:  # the values mean the same in both
            check_label_map(task, case, original.label_map)
            count.harmless += 1
            continue
        told = f"label values {strange} have no meaning in {scheme}"
        for use in (lambda c, o: check_label_map(task, c, o.label_map),
                    lambda c, o, n=nothing: written_and_scored(task, c, o, n, tmp_path / "out")):  # fmt: skip
            with pytest.raises(ValueError, match=case.name) as error:
                use(case, original)
            assert told in str(error.value)
        assert told in problems
        count.refused += 1
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    count.done(least_refused=8)


def test_a_name_never_leads_out_of_the_folder(tmp_path, cohort):
    case = catalog.load("cohorts", "synthetic").cases(cohort)[-1]
    task = catalog.load("tasks", "tumour_segmentation").build(
        "synthetic", catalog.load("cohorts", "synthetic").cases(cohort), 0
    )
    original, count = read_case(case.scans), Count(26, "ids that lead out of the folder of label maps")
    for name in ("../x", "../../x", "/tmp/x", "a/b", "..\\x", "x\0y"):
        bad = type(case)(name, case.scans, case.session, case.site, case.participant)
        with pytest.raises(ValueError, match="cannot name a file"):
            written_and_scored(task, bad, original, np.zeros(original.voxels.shape[1:], np.uint8), tmp_path / "out")
        count.refused += 1
    assert not list(tmp_path.iterdir())
    count.done()


@pytest.mark.parametrize(("cohort", "missed"), [("brats2021", 0), ("brats2023_men", 0), ("brats2023_mets", 1)])
def test_small_lesions_count_where_the_release_counts_them(tmp_path, cohort, missed):
    """A large lesion found and one of 8 voxels missed: in BraTS 2023 that is one of two metastases, else nothing."""
    labels = np.zeros(head().voxels.shape[1:], np.int16)
    value = max(SCHEMES[RELEASES[cohort].scheme].values)
    labels[12:18, 12:18, 12:18], labels[30:32, 30:32, 20:22] = value, value
    for number in range(8):
        place(tmp_path, cohort, number, labels)
    cases = catalog.load("cohorts", cohort).cases(tmp_path, lambda line: None)
    task = catalog.load("tasks", "tumour_segmentation").build(cohort, cases, 0)
    original = read_case(cases[0].scans)
    large = original.label_map.copy().astype(np.uint8)
    components, count = ndimage.label(large)
    assert count == 2
    large[components == np.argmin(np.bincount(components.ravel())[1:]) + 1] = 0
    scores = written_and_scored(task, cases[0], original, large, None)
    assert scores["output_ET_lesionwise_dice"] == 1 / (1 + missed)
    assert scores["output_ET_lesionwise_hd95_mm"] == 374 * missed / 2
