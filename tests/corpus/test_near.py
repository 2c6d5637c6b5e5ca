"""Thumbnails of real anatomy: disguised copies are near their originals, different people are not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from braindino.corpus.near import CANDIDATES, LIKELY, NEAR, near
from braindino.corpus.thumbnail import THUMBNAIL, coarse, resemblance, thumbnail
from braindino.layouts.bids import read_bids
from braindino.volume.io import read_case


@pytest.fixture(scope="module")
def people(cohort):
    """T1-weighted heads of the small synthetic cohort, at 4 mm."""
    cases = [case for case in read_bids(cohort) if case.subject.startswith("healthy")][:6]
    return [read_case([scan for scan in case.scans if scan.contrast == "T1w"]) for case in cases]


def turned(volume, degrees):
    angle, centre = np.deg2rad(degrees), (np.array(volume.voxels.shape[1:]) - 1) / 2
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    images = [
        ndimage.affine_transform(image.astype(np.float32), turn, centre - turn @ centre, order=1)
        for image in (volume.voxels[0], volume.brain_mask)
    ]
    return replace(volume, voxels=images[0][None], brain_mask=images[1] > 0.5)


DISGUISES = {
    "monotone": lambda v: replace(v, voxels=np.sqrt(v.voxels + 100)),
    "cut": lambda v: replace(v, voxels=v.voxels[..., 9:], brain_mask=v.brain_mask[..., 9:]),
    "padded": lambda v: replace(
        v, voxels=np.pad(v.voxels, ((0, 0), *[(3, 5)] * 3)), brain_mask=np.pad(v.brain_mask, [(3, 5)] * 3)
    ),
    "turned": lambda v: turned(v, 6),
    "larger mask": lambda v: replace(v, brain_mask=ndimage.binary_dilation(v.brain_mask)),
    "smaller mask": lambda v: replace(v, brain_mask=ndimage.binary_erosion(v.brain_mask)),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_copies_are_found_under_every_disguise_and_strangers_are_not(people, disguise):
    mine = np.stack([thumbnail(volume) for volume in people])
    copies = np.stack([thumbnail(DISGUISES[disguise](volume)) for volume in people])
    numbers = [str(n) for n in range(len(people))]
    found = near([f"m{n}" for n in numbers], mine, [f"c{n}" for n in numbers], copies)
    assert {(left, right) for left, right, _ in found} == {(n, n) for n in range(len(people))}
    assert [value for *_, value in found] == sorted((value for *_, value in found), reverse=True)


def test_within_a_corpus_pairs_come_once_and_never_of_one_name(people):
    pictures = np.stack([thumbnail(volume) for volume in (*people, *people[:3])])
    names = [*"abcdef", "a", "x", "y"]
    assert [pair[:2] for pair in near(names, pictures, names, pictures)] == [(1, 7), (2, 8)]
    assert near(names, pictures, names, pictures, workers=2) == near(names, pictures, names, pictures)


def test_many_scans_of_one_subject_do_not_hide_another(people):
    """Candidates are counted by subject, so a hundred scans of one neighbour leave room for the copy."""
    base, other = thumbnail(people[0]), thumbnail(turned(people[0], 6))
    crowd = np.stack([*[base] * (CANDIDATES + 5), other])
    found = near(["me"], base[None], [*["crowd"] * (CANDIDATES + 5), "copy"], crowd)
    assert [pair[:2] for pair in found] == [(0, 0), (0, CANDIDATES + 5)]


def test_ranks_cells_and_what_is_outside(people):
    picture = thumbnail(people[0])
    assert picture.shape == THUMBNAIL and picture.dtype == np.uint8
    values, counts = np.unique(picture[picture > 0], return_counts=True)
    assert (values[0], values[-1]) == (1, 255) and counts.max() - counts.min() <= 1
    millilitres = people[0].brain_mask.sum() * 0.064 * np.prod(people[0].spacing_mm) / 64
    assert (picture > 0).sum() * 0.064 == pytest.approx(millilitres, rel=0.1)
    assert not picture[..., -1].any() and picture[..., -3].any()  # the top cell lies above the vertex


def test_what_holds_no_brain_or_no_contrast_resembles_nothing(people):
    picture, empty = thumbnail(people[0]), np.zeros(THUMBNAIL, np.uint8)
    flat = (picture > 0).astype(np.uint8)
    assert resemblance(picture, empty) == resemblance(empty, picture) == resemblance(picture, flat) == 0
    assert not coarse(empty).any() and 0 < LIKELY < NEAR < 1
    assert near([], np.zeros((0, *THUMBNAIL), np.uint8), ["a"], picture[None]) == []
