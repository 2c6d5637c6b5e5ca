"""Heads that train in a copy of the encoder: they learn, the encoder stays, and only the right one is served again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from braindino import catalog
from braindino.fitting import tuning
from braindino.heads import Live, lora
from braindino.model.config import ViTConfig
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.model.weights import digest
from braindino.pipeline.around import Asked
from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task, read_head, write_head
from braindino.pipeline.predict import predict
from braindino.reporting.provenance import TRAINED_INSIDE
from braindino.stats.metrics import METRICS
from braindino.volume.recipe import Recipe

HEADS = ("lora", "tuned")
HEADLINE = {"classification": "roc_auc", "regression": "mae", "survival": "concordance_index"}


def vit(seed=0):
    config = ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=None)
    return SliceEncoder("vit", VisionTransformer(config, torch.Generator().manual_seed(seed)), Recipe(size_px=16))


def draw(kind, count, seed, shuffled=False):
    """Noisy pictures of four quarters; in one view of three the first quarter's brightness is the answer."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=count)
    pictures = rng.normal(size=(count, 3, 1, 16, 16))
    pictures[:, :, 0, :8, :8] += 2 * hidden[:, None, None, None]
    if kind == "classification":
        y = np.where(hidden > 0, "yes", "no")
    elif kind == "regression":
        y = 60 + 10 * hidden
    else:
        time = rng.exponential(400 * np.exp(-1.2 * hidden))
        y = np.stack([time, rng.random(count) < 0.7], 1).astype(float)
    return tuple(pictures.astype(np.float16)), rng.permutation(y) if shuffled else y


def learn(name, kind, encoder, shuffled=False, steps=60, seed=0):
    (x, y), (held, truth) = (draw(kind, size, [seed, part], shuffled) for part, size in ((1, 48), (2, 32)))
    module = catalog.load("heads", name)
    return module.fit(Live(encoder, x), y, (Live(encoder, held), truth), kind=kind, seed=seed, steps=steps)


def quality(head, kind, encoder):
    x, y = draw(kind, 120, 9)
    output = head.predict(Live(encoder, x))
    target = np.searchsorted(["no", "yes"], y) if kind == "classification" else y
    return METRICS[HEADLINE[kind]].value(target, output if kind == "classification" else output[:, 0])


def test_the_report_knows_which_heads_these_are():
    inside = [n for n in catalog.names("heads") if catalog.load("heads", n).Fitted.needs == "gradient"]
    assert tuple(inside) == TRAINED_INSIDE == (*HEADS, "tuned_decoder")


@pytest.mark.parametrize("kind", HEADLINE)
@pytest.mark.parametrize("name", HEADS)
def test_learns_and_leaves_the_encoder_as_it_was(name, kind):
    encoder = vit()
    before = digest(encoder.model)
    head = learn(name, kind, encoder, steps=150 if kind == "regression" else 60)
    assert digest(encoder.model) == before and not any(p.requires_grad for p in encoder.model.parameters())
    inside, own = head.learned.inside, encoder.model.state_dict()
    if name == "lora":
        assert all(np.abs(array).max() > 0 for key, array in inside.items() if key.endswith(".B"))
    else:
        assert not np.array_equal(inside["blocks.0.attn.qkv.weight"], own["blocks.0.attn.qkv.weight"])
    found = quality(head, kind, encoder)
    assert (found < 6) if kind == "regression" else (found > 0.7), found  # the mean alone: 8 years


@pytest.mark.parametrize("name", HEADS)
def test_finds_nothing_where_labels_are_shuffled(name):
    encoder = vit()
    found = [
        quality(learn(name, "classification", encoder, True, 30, seed), "classification", encoder) for seed in (1, 2, 3)
    ]
    assert 0.3 < np.mean(found) < 0.7


@pytest.mark.parametrize("name", HEADS)
def test_a_seed_decides_and_a_round_trip_keeps(name):
    encoder, kind = vit(), "classification"
    one, two, other = (learn(name, kind, encoder, steps=4, seed=seed) for seed in (0, 0, 1))
    states = [head.state() for head in (one, two, other)]
    assert states[0].keys() == states[1].keys() and all(np.array_equal(states[0][n], states[1][n]) for n in states[0])
    assert any(not np.array_equal(states[0][n], states[2][n]) for n in states[0])
    x = Live(encoder, draw(kind, 5, 3)[0])
    again = catalog.load("heads", name).from_state(states[0])
    assert np.array_equal(again.predict(x), one.predict(x))
    alone = [one.predict(Live(encoder, (picture,)))[0] for picture in x.pictures]
    assert np.allclose(alone, one.predict(x), atol=1e-6)


def test_weights_plus_b_a_are_what_peft_trained():
    encoder = vit()
    model = vit().model
    trained = lora._with_maps(model, 0)
    assert len(trained) == 2 * 2 * 2 and {array.shape[0] for name, array in trained.items() if name.endswith(".A")} == {
        8
    }
    with torch.no_grad():
        for name, factor in trained.items():
            factor.copy_(0.1 * torch.randn(factor.shape, generator=torch.Generator().manual_seed(len(name))))
    pictures, _ = draw("classification", 3, 0)
    theirs = tuning.features_of(model, pictures)
    head = learn("lora", "classification", encoder, steps=1)
    inside = {name: factor.detach().numpy() for name, factor in trained.items()}
    merged = lora.Fitted(replace(head.learned, inside=inside))
    base = tuning.features_of(encoder.model, pictures)
    assert np.abs(theirs - base).max() > 0.01
    expected = head.learned.network.answers((theirs,))
    assert np.allclose(merged.predict(Live(encoder, pictures)), expected, atol=1e-6)


def test_what_is_missing_or_wrong_is_said(monkeypatch, capsys):
    encoder = vit()
    learn("tuned", "classification", encoder, steps=1)
    everything = sum(one.numel() for one in encoder.model.parameters()) + 2 * 32 + 33 * 32 + 33 * 2
    assert f"tuned trains {everything:,} of {everything:,} parameters (100.00%)" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"'lora' needs PEFT: pip install 'braindino\[lora\]'"):
        learn("lora", "classification", encoder, steps=1)
    with pytest.raises(ValueError, match="serves classification, regression, survival, not segmentation"):
        learn("tuned", "segmentation", encoder, steps=1)
    with pytest.raises(ValueError, match="needs every patch"):
        learn("tuned", "classification", replace(encoder, variant="brain"), steps=1)
    x, y = draw("classification", 20, 0)
    one_class = np.array(["yes"] * 20)
    with pytest.raises(ValueError, match="class"):
        catalog.load("heads", "tuned").fit(Live(encoder, x), one_class, (Live(encoder, x), y), kind="classification")


@pytest.mark.parametrize("name", HEADS)
def test_as_a_line(tmp_path, cohort, weights, name, capsys):
    """fit, write, read, predict; a torn scan is told in learning and keeps its row; others' weights are refused."""
    encoder, task = load_encoder("braindino", weights), load_task("diagnosis", cohort, "synthetic")
    before = encoder.digest()
    torn = tmp_path / "x.nii.gz"
    torn.write_bytes(task.cases[0].scans[0].path.read_bytes()[:500])
    bad = {task.cases_of(split)[0].name for split in ("train", "test")}
    cases = tuple(
        replace(case, scans=(replace(case.scans[0], path=torn),)) if case.name in bad else case for case in task.cases
    )
    task = replace(task, cases=cases)
    fitted = fit(task, encoder, name, steps=3)
    told = capsys.readouterr().err
    assert f"note: {name} trains" in told and "is left out of learning" in told
    write_head(fitted, tmp_path / "head")
    read = read_head(tmp_path / "head")
    assert encoder.digest() == before == read.encoder_digest and read.steps == 3 and read.name == name
    table = predict(task, encoder, read).table
    pd.testing.assert_frame_equal(table, predict(task, encoder, fitted).table)
    failed = table[table["status"] != "ok"]
    assert set(failed["case"]) == bad & set(table["case"]) and len(failed) == 1
    good = table[table["status"] == "ok"]
    assert set(table["head"]) == {name} and np.allclose(good.filter(like="output_").sum(axis=1), 1)
    with pytest.raises(ValueError, match="other encoder weights"):
        predict(task, load_encoder("random_init", weights, seed=9), read)
    with pytest.raises(ValueError, match="not cached features"):
        fit(task, encode(cases, encoder), name)
    with pytest.raises(ValueError, match="heads on cached features"):
        fit(task, encoder, name, asked=Asked(combat=True))
