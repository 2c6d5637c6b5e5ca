"""Where the mean over slices is blind: what a slice shows counts by where it lies, or by which slice lies above it."""

from functools import cache

import numpy as np
import pytest

from braindino import catalog
from braindino.heads import Views
from braindino.stats.metrics import METRICS

VIEWS, DIM = 8, 16
NAMES = ("attention_pool", "slice_transformer")


def positions(n, rng):
    """Slices 10 mm apart; the origin of each subject's scanner is another."""
    return (10.0 * np.arange(VIEWS) + rng.uniform(-200, 200, size=(n, 1))).astype(np.float32)


def by_place(n, seed):
    """The sign at 15 mm above the middle is the class; the slice at the same distance below has the opposite sign."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, VIEWS, DIM))
    sign = 2.0 * y - 1
    x[:, 5, :4] += 4 * sign[:, None]
    x[:, 2, :4] -= 4 * sign[:, None]
    return Views(x.astype(np.float32), positions(n, rng), np.zeros(VIEWS, int)), np.array(["low", "up"])[y]


def by_order(n, seed):
    """Two marks in two slices of any place; the class is which of them lies above."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, VIEWS, DIM))
    for subject in range(n):
        low, high = np.sort(rng.choice(VIEWS, 2, replace=False))
        x[subject, high if y[subject] else low, :4] += 5
        x[subject, low if y[subject] else high, 4:8] += 5
    return Views(x.astype(np.float32), positions(n, rng), np.zeros(VIEWS, int)), np.array(["low", "up"])[y]


def by_contrast(n, seed):
    """The same slices of two contrasts with opposite signs."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 6, DIM)).astype(np.float32)
    sign = (np.arange(6) < 3) * 2.0 - 1
    x[:, :, :4] += (3 * sign * (2.0 * y[:, None] - 1))[..., None]
    place = np.tile(np.float32([0, 10, 20] * 2), (n, 1))
    return Views(x, place, np.repeat([0, 1], 3)), np.array(["low", "up"])[y]


SIZES = {by_place: 60, by_order: 320, by_contrast: 40}


@cache
def learned(name, draw):
    """A head on views, or one on their mean."""
    head = catalog.load("heads", name)
    (x, y), (held, truth) = draw(SIZES[draw], [3, 0]), draw(50, [3, 1])
    return head.fit(given(head.Fitted, x), y, (given(head.Fitted, held), truth), kind="classification", seed=0)


def given(head, x):
    return x if head.needs == "views" else x.values.astype(float).mean(1)


def auc(name, draw):
    x, y = draw(200, [3, 2])
    head = learned(name, draw)
    return METRICS["roc_auc"].value((y == "up").astype(int), head.predict(given(head, x)))


@pytest.mark.parametrize("draw", [by_place, by_contrast])
@pytest.mark.parametrize("name", NAMES)
def test_place_and_contrast_count(name, draw):
    assert auc(name, draw) > 0.9
    assert 0.35 < auc("linear", draw) < 0.65


def test_the_slice_above_counts():
    assert auc("slice_transformer", by_order) > 0.85
    assert 0.35 < auc("linear", by_order) < 0.65


@pytest.mark.parametrize("name", NAMES)
def test_the_origin_of_the_scanner_does_not_count_and_up_is_not_down(name):
    x, _ = by_place(30, 0)
    head = learned(name, by_place)
    moved = Views(x.values, x.position_mm + np.float32(64), x.contrast)
    np.testing.assert_allclose(head.predict(moved), head.predict(x), atol=1e-4)
    turned = Views(x.values, -x.position_mm, x.contrast)
    assert np.abs(head.predict(turned) - head.predict(x)).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_which_views_are_listed_does_not_count(name):
    x, _ = by_place(30, 0)
    order = np.random.default_rng(0).permutation(VIEWS)
    mixed = Views(x.values[:, order], x.position_mm[:, order], x.contrast)
    head = learned(name, by_place)
    np.testing.assert_allclose(head.predict(mixed), head.predict(x), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_other_contrasts_are_refused(name):
    x, _ = by_contrast(20, 0)
    with pytest.raises(ValueError, match="learned on 6 views of 2 contrasts, got 3 of 1"):
        learned(name, by_contrast).predict(Views(x.values[:, :3], x.position_mm[:, :3], x.contrast[:3]))
