"""Exact epochs: every slice once, subjects kept apart, no hidden state."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindino.corpus.sampler import Sampler, epoch_sampler
from braindino.corpus.shards import Corpus
from braindino.volume.recipe import Recipe


def sampler(sizes, batch_size, seed=0, weights=None):
    sizes = np.array(sizes, np.int64)
    weights = np.ones(len(sizes)) if weights is None else np.array(weights, float)
    return Sampler(np.arange(sizes.sum(), dtype=np.int32), sizes, weights, batch_size, seed)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_every_slice_is_seen_once_per_epoch(sizes, batch_size, seed):
    drawn = sampler(sizes, batch_size, seed)
    count = sum(sizes)
    steps = -(-3 * count // batch_size)
    stream = np.concatenate([drawn.slices(step) for step in range(steps)])[: 3 * count].reshape(3, count)
    assert (np.sort(stream, axis=1) == np.arange(count)).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=8, max_size=40),
    batch_size=st.integers(2, 8),
    epoch=st.integers(0, 3),
)
def test_a_subject_meets_a_batch_twice_only_where_it_must(sizes, batch_size, epoch):
    drawn = sampler(sizes, batch_size)
    count = sum(sizes)
    head = -epoch * count % batch_size
    batches = (count - head) // batch_size
    subject = np.repeat(np.arange(len(sizes)), sizes)[drawn.epoch(epoch)]
    for batch in subject[head : head + batches * batch_size].reshape(batches, batch_size):
        found, times = np.unique(batch, return_counts=True)
        for one, seen in zip(found, times, strict=True):
            assert seen <= -(-sizes[one] // batches), "more often than an even spread needs"


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    sizes, one = [9] * 20, sampler([9] * 20, 8)
    assert np.array_equal(one.epoch(1), sampler(sizes, 8).epoch(1))
    assert not np.array_equal(one.epoch(0), one.epoch(1))
    assert not np.array_equal(one.epoch(0), sampler(sizes, 8, seed=1).epoch(0))
    backwards = [one.slices(step) for step in range(60, -1, -1)][::-1]
    assert all(np.array_equal(sampler(sizes, 8).slices(step), backwards[step]) for step in (0, 7, 22, 23, 45, 60))
    assert one.state(23) == (1, 4) and one.state(0) == (0, 0)


def test_partners_change_from_batch_to_batch():
    drawn = sampler([40] * 64, 16)
    subject = np.repeat(np.arange(64), 40)[drawn.epoch(0)].reshape(-1, 16)
    together = np.zeros((64, 64))
    for batch in subject:
        together[np.ix_(batch, batch)] += 1
    pairs = together[np.triu_indices(64, 1)]
    expected = len(subject) * 16 * 15 / (64 * 63)
    assert pairs.mean() == pytest.approx(expected) and pairs.max() < 3 * expected


def _corpus(tmp_path):
    scans = pd.DataFrame({"cohort": ["a", "b", "a", "b"], "subject": ["1", "1", "2", "2"]})
    scans["slices"] = [10, 30, 20, 11]
    scans["first"] = [0, 10, 40, 60]
    return Corpus(tmp_path, Recipe(), scans, "")


def test_weights_are_how_often_the_slices_of_a_source_are_seen(tmp_path):
    corpus = _corpus(tmp_path)
    subjects = ("a/1", "a/2", "b/1", "b/2")
    drawn = epoch_sampler(corpus, subjects, 8, 0, {"a": 0.25, "b": 2.5})
    of_a = np.r_[0:10, 40:60]
    seen = np.zeros((40, 71))
    for epoch in range(40):
        order = drawn.epoch(epoch)
        assert len(order) == len(drawn) == round(0.25 * 30) + round(2.5 * 41)
        seen[epoch] = np.bincount(order, minlength=71)
    assert set(np.unique(seen[:, of_a])) == {0, 1} and (seen[:, of_a].sum(1) == 8).all()
    of_b = np.delete(np.arange(71), of_a)
    assert set(np.unique(seen[:, of_b])) == {2, 3} and (seen[:, of_a].sum(0) > 0).all()
    left_out = epoch_sampler(corpus, subjects, 8, 0, {"a": 0.0})
    assert sorted(left_out.epoch(0)) == list(of_b)


def test_only_the_subjects_asked_for_are_drawn(tmp_path):
    drawn = epoch_sampler(_corpus(tmp_path), ("a/2", "b/1"), 8, 0, {})
    assert sorted(drawn.epoch(0)) == [*range(10, 60)]


@pytest.mark.parametrize("weights", [{"c": 1.0}, {"a": -1.0}, {"a": 0.0, "b": 0.0}, {"a": float("nan")}])
def test_impossible_weights_are_refused(tmp_path, weights):
    with pytest.raises(ValueError, match="weight"):
        epoch_sampler(_corpus(tmp_path), ("a/1", "b/1"), 8, 0, weights)
