"""What every head on features must do: learn what is there, find nothing where nothing is, survive a round trip."""

import numpy as np
import pytest

from braindino import catalog
from braindino.stats.metrics import METRICS

HEADLINE = {"classification": "roc_auc", "regression": "mae", "survival": "concordance_index"}
PAIRS = [
    ("linear", "classification"),
    ("linear", "regression"),
    ("knn", "classification"),
    ("cox", "survival"),
    ("prior", "classification"),
    ("prior", "regression"),
    ("prior", "survival"),
]
LEARNING = [pair for pair in PAIRS if pair[0] != "prior"]


def draw(kind, n, seed, dim=256, shuffled=False):
    """Features of which four directions carry the answer; few subjects, many features."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 4))
    mix = np.random.default_rng(99).normal(size=(4, dim))
    x = 5 + 3 * (hidden @ mix) + 4 * rng.normal(size=(n, dim))
    if kind == "classification":
        y = np.array(["CN", "MCI", "AD"])[np.argmax(hidden[:, :3] + 0.3 * rng.normal(size=(n, 3)), axis=1)]
    elif kind == "regression":
        y = 60 + 10 * hidden[:, 0] + 3 * rng.normal(size=n)
    else:
        time, censored = rng.exponential(400 * np.exp(-1.2 * hidden[:, 0])), rng.exponential(800, n)
        y = np.stack([np.ceil(np.minimum(time, censored) / 30), time <= censored], 1).astype(float)  # tied times
    return x, rng.permutation(y) if shuffled else y


def learn(name, kind, shuffled=False, n=60, seed=0, dim=256):
    train, validation = (draw(kind, size, [seed, part], dim, shuffled) for part, size in ((1, n), (2, 40)))
    return catalog.load("heads", name).fit(*train, validation, kind=kind, seed=seed)


def quality(head, kind, seed=0):
    x, y = draw(kind, 300, [seed, 3])
    output = head.predict(x)
    target = np.searchsorted(["AD", "CN", "MCI"], y) if kind == "classification" else y
    return METRICS[HEADLINE[kind]].value(target, output if kind == "classification" else output[:, 0])


@pytest.mark.parametrize(("name", "kind"), LEARNING)
def test_learns_what_is_there(name, kind):
    got = quality(learn(name, kind), kind)
    assert got < 0.65 * quality(learn("prior", kind), kind) if kind == "regression" else got > 0.7


@pytest.mark.parametrize(("name", "kind"), LEARNING)
def test_finds_nothing_in_shuffled_targets(name, kind):
    got = np.mean([quality(learn(name, kind, shuffled=True, seed=seed), kind, seed) for seed in range(6)])
    if kind == "regression":
        assert got > 0.93 * np.mean([quality(learn("prior", kind, seed=seed), kind, seed) for seed in range(6)])
    else:
        assert 0.4 < got < 0.6


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_state_round_trip_is_exact(name, kind):
    head = learn(name, kind)
    state = head.state()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    x, _ = draw(kind, 20, 5)
    again = catalog.load("heads", name).from_state({key: array.copy() for key, array in state.items()})
    np.testing.assert_array_equal(again.predict(x), head.predict(x))
    np.testing.assert_array_equal(learn(name, kind).predict(x), head.predict(x))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_shape_of_the_answer(name, kind):
    output = learn(name, kind).predict(draw(kind, 7, 1)[0])
    assert output.shape == (7, 3 if kind == "classification" else 1)
    if kind == "classification":
        np.testing.assert_allclose(output.sum(1), 1)


@pytest.mark.parametrize("name", ["linear", "cox", "knn", "prior"])
def test_refuses_other_kinds(name):
    x, y = draw("survival" if name == "cox" else "regression", 10, 0)
    with pytest.raises(ValueError, match="serves"):
        catalog.load("heads", name).fit(x, y, (x, y), kind="segmentation", seed=0)


def test_ten_training_subjects_are_no_worse_than_the_prior():
    """A tenth of a small set: 12 subjects, 256 features."""
    for kind, better in (("regression", -1), ("classification", 1)):
        x, y = draw(kind, 12, 4, dim=256)
        head = catalog.load("heads", "linear").fit(x, y, draw(kind, 40, 5), kind=kind, seed=0)
        prior = catalog.load("heads", "prior").fit(x, y, draw(kind, 40, 5), kind=kind, seed=0)
        assert better * quality(head, kind) > better * quality(prior, kind)
