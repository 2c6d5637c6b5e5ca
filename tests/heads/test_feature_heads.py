"""What every head on features must do: learn what is there, find nothing where nothing is, survive a round trip."""

from functools import cache

import numpy as np
import pytest
import torch

from braindino import catalog
from braindino.heads import Views
from braindino.stats.metrics import METRICS

HEADLINE = {"classification": "roc_auc", "regression": "mae", "survival": "concordance_index"}
ON_FEATURES = [n for n in catalog.names("heads") if catalog.load("heads", n).Fitted.needs in ("cls", "views")]
KINDS = ("classification", "regression", "survival")
PAIRS = [(n, kind) for n in ON_FEATURES for kind in KINDS if kind in catalog.load("heads", n).Fitted.kinds]
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


def given(head, x):
    """What a head asks for: the vector of each subject, or four noisy views of it."""
    if head.needs == "cls":
        return x
    noise = np.random.default_rng(len(x)).normal(size=(len(x), 4, x.shape[1]))
    place = np.tile(np.float32([-30, -10, 10, 30]), (len(x), 1))
    return Views((x[:, None] + 4 * (noise - noise.mean(1, keepdims=True))).astype(np.float32), place, np.zeros(4, int))


@cache
def learn(name, kind, shuffled=False, n=60, seed=0, dim=256):
    (x, y), (held, truth) = (draw(kind, size, [seed, part], dim, shuffled) for part, size in ((1, n), (2, 40)))
    module = catalog.load("heads", name)
    validation = given(module.Fitted, held), truth
    return module.fit(given(module.Fitted, x), y, validation, kind=kind, seed=seed)


def quality(head, kind, seed=0):
    x, y = draw(kind, 300, [seed, 3])
    output = head.predict(given(head, x))
    target = np.searchsorted(["AD", "CN", "MCI"], y) if kind == "classification" else y
    return METRICS[HEADLINE[kind]].value(target, output if kind == "classification" else output[:, 0])


@pytest.mark.parametrize(("name", "kind"), LEARNING)
def test_learns_what_is_there(name, kind):
    got = quality(learn(name, kind), kind)
    assert (
        got < 0.65 * quality(learn("prior", kind), kind)
        if kind == "regression"
        else got > (0.65 if kind == "survival" else 0.7)
    )


@pytest.mark.parametrize(("name", "kind"), LEARNING)
def test_finds_nothing_in_shuffled_targets(name, kind):
    draws = range(2) if name == "slice_transformer" else range(6)
    got = np.mean([quality(learn(name, kind, shuffled=True, seed=seed), kind, seed) for seed in draws])
    if kind == "regression":
        assert got > 0.93 * np.mean([quality(learn("prior", kind, seed=seed), kind, seed) for seed in draws])
    else:
        assert 0.4 < got < 0.6


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_state_round_trip_is_exact(name, kind):
    head = learn(name, kind)
    state = head.state()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    x, _ = draw(kind, 20, 5)
    again = catalog.load("heads", name).from_state({key: array.copy() for key, array in state.items()})
    answer = head.predict(given(head, x))
    np.testing.assert_array_equal(again.predict(given(head, x)), answer)
    np.testing.assert_array_equal(learn.__wrapped__(name, kind).predict(given(head, x)), answer)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_shape_of_the_answer(name, kind):
    head = learn(name, kind)
    output = head.predict(given(head, draw(kind, 7, 1)[0]))
    assert output.shape == (7, 3 if kind == "classification" else 1)
    if kind == "classification":
        np.testing.assert_allclose(output.sum(1), 1)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_refuses_other_kinds(name):
    module = catalog.load("heads", name)
    x, y = draw("survival" if "survival" in module.Fitted.kinds else "regression", 10, 0)
    x = given(module.Fitted, x)
    with pytest.raises(ValueError, match="serves"):
        module.fit(x, y, (x, y), kind="segmentation", seed=0)


NEW = ("mlp", "attention_pool", "slice_transformer", "discrete_time")


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[0] in NEW])
def test_refuses_what_it_cannot_learn_from(name, kind):
    module = catalog.load("heads", name)
    (x, y), held = draw(kind, 20, 1, dim=8), draw(kind, 20, 2, dim=8)
    validation = given(module.Fitted, held[0]), held[1]
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="training: row 3 of the features is not finite"):
        module.fit(given(module.Fitted, broken), y, validation, kind=kind)
    if name != "discrete_time":  # whose shapes the test's type checker refuses before
        with pytest.raises(ValueError, match="one target for each"):
            module.fit(given(module.Fitted, x), y[:-1], validation, kind=kind)
    if kind == "classification":
        with pytest.raises(ValueError, match="no training subject"):
            module.fit(given(module.Fitted, x), np.repeat("CN", 20), validation, kind=kind)
    elif kind == "regression":
        with pytest.raises(ValueError, match="expected a finite value"):
            module.fit(given(module.Fitted, x), np.where(y == y[0], np.nan, y), validation, kind=kind)
    else:
        with pytest.raises(ValueError, match="0 events among 20"):
            module.fit(given(module.Fitted, x), y * [1, 0], validation, kind=kind)


@pytest.mark.parametrize("name", ["mlp", "attention_pool"])
def test_a_network_leaves_torchs_generator_as_it_was(name):
    before = torch.get_rng_state()
    one, two = (learn(name, "regression", seed=seed, dim=8) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    x = given(one, draw("regression", 5, 0, dim=8)[0])
    assert not np.array_equal(one.predict(x), two.predict(x))


def test_ten_training_subjects_are_no_worse_than_the_prior():
    """A tenth of a small set: 12 subjects, 256 features."""
    for kind, better in (("regression", -1), ("classification", 1)):
        x, y = draw(kind, 12, 4, dim=256)
        head = catalog.load("heads", "linear").fit(x, y, draw(kind, 40, 5), kind=kind, seed=0)
        prior = catalog.load("heads", "prior").fit(x, y, draw(kind, 40, 5), kind=kind, seed=0)
        assert better * quality(head, kind) > better * quality(prior, kind)
