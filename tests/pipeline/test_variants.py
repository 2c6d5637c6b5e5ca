"""Variants of one model stand beside each other in the tables, each under a name of its own."""

import json
from dataclasses import replace

import pytest

from braindino.pipeline.analyze import analyze_folders
from braindino.pipeline.around import Asked
from braindino.pipeline.encode import write_features
from braindino.pipeline.fit import fit, read_head, write_head
from braindino.pipeline.predict import predict, read_predictions, write_predictions
from braindino.pipeline.score import score
from people import features_of, question


@pytest.fixture(scope="module")
def task():
    return question("idh")


def features(task, variant="exact", pooling="cls"):
    digest = {"encoder": "braindino", "encoder_digest": variant, "variant": variant, "pooling": pooling}
    return features_of(task.cases, task.contrasts, **digest)


def test_variants_of_one_model_are_scored_and_compared(tmp_path, task):
    plain = features(task)
    asked = {
        "braindino/linear": (plain, Asked()),
        "braindino@brain/linear": (features(task, "brain"), Asked()),
        "braindino+mean_patch/linear": (features(task, pooling="mean_patch"), Asked()),
        "braindino+concat/linear": (plain, Asked(fusion="concat")),
        "braindino@brain+mean_patch+weighted/linear": (features(task, "brain", "mean_patch"), Asked(fusion="weighted")),
        "braindino/linear+combat": (plain, Asked(combat=True)),
        "braindino/linear+temperature": (plain, Asked("temperature", 0.5)),
        "braindino/linear+combat+isotonic": (plain, Asked("isotonic", combat=True)),
    }
    tables = []
    for name, (on, what) in asked.items():
        write_head(fit(task, on, asked=what), tmp_path / name)
        write_predictions(predict(task, on, read_head(tmp_path / name)), tmp_path / "p" / name)
        tables.append(read_predictions(tmp_path / "p" / name).table)
        assert set(tables[-1]["encoder"] + "/" + tables[-1]["head"]) == {name}
    prior = [
        predict(task, plain, fit(task, plain, "prior", asked=what)).table for what in (Asked(), Asked(combat=True))
    ]
    scores = score([*tables, *prior], draws=20)
    assert set(scores.metrics["encoder"] + "/" + scores.metrics["head"]) == {
        *asked, "braindino/prior", "braindino/prior+combat"
    }  # fmt: skip
    pairs = {frozenset(pair) for pair in scores.comparisons[["a", "b"]].itertuples(index=False, name=None)}
    assert len(pairs) == len(scores.comparisons) == 10 + 6 + 8
    assert {"braindino+concat/linear", "braindino@brain/linear"} in pairs
    assert {"braindino/linear", "braindino/linear+combat"} in pairs
    assert {"braindino+concat/linear", "braindino/linear+combat"} not in pairs
    assert sum("braindino/prior" in pair for pair in pairs) == 8 and not any(
        "braindino/prior+combat" in p for p in pairs
    )


def test_a_head_of_one_variant_does_not_serve_another_though_the_weights_are_the_same(tmp_path, task):
    first, mean = (
        features_of(task.cases, task.contrasts, encoder="brainiac", variant=variant) for variant in ("first", "mean")
    )
    write_head(fit(task, first), tmp_path / "h")
    with pytest.raises(ValueError, match="learned on variant 'first', not on 'mean'"):
        predict(task, mean, read_head(tmp_path / "h"))
    assert set(predict(task, mean, fit(task, mean)).table["encoder"]) == {"brainiac@mean"}
    assert set(predict(task, replace(first, variant=""), read_head(tmp_path / "h")).table["encoder"]) == {"brainiac"}


def test_heads_that_do_not_tell_their_variant_are_read(tmp_path, task):
    write_head(fit(task, features(task, "brain")), tmp_path / "h")
    record = json.loads((tmp_path / "h" / "record.json").read_text())
    del record["config"]["variant"]
    (tmp_path / "h" / "record.json").write_text(json.dumps(record))
    old = read_head(tmp_path / "h")
    assert old.variant == "" and set(predict(task, features(task, "brain"), old).table["encoder"]) == {"braindino"}


def test_a_cox_head_with_something_around_it_is_one_still():
    task = question("survival")
    on = features_of(task.cases, task.contrasts, encoder="braindino")
    table = predict(task, on, fit(task, on, "cox", asked=Asked(combat=True))).table
    groups = score(table.drop(columns="threshold"), draws=20).risk_groups
    assert set(groups["head"]) == {"cox+combat"} and list(groups["threshold"]) == [0, 0]


def test_age_and_sex_alone_are_known_in_every_form(task):
    plain = predict(task, features(task), fit(task, features(task))).table
    scores = score([plain, plain.assign(encoder="clinical", head="mlp+isotonic")], draws=20)
    assert list(scores.comparisons["b"]) == ["clinical/mlp+isotonic"]


def test_tables_of_the_older_form_are_scored(task):
    table = predict(task, features(task), fit(task, features(task))).table
    old = table.drop(columns=["protocol", "contrasts", "pretrained"])
    assert list(score(old, draws=20).metrics["encoder"].unique()) == ["braindino"]


def test_variants_are_analysed_side_by_side(tmp_path, task):
    for variant, pooling in (("exact", "cls"), ("brain", "cls"), ("exact", "mean_patch")):
        write_features(features(task, variant, pooling), tmp_path / f"{variant}-{pooling}")
    names = ("exact-cls", "brain-cls", "exact-mean_patch")
    found = analyze_folders([tmp_path / name for name in names], tmp_path / "a")
    assert list(found.encoders["encoder"]) == ["braindino", "braindino@brain", "braindino+mean_patch"]
    with pytest.raises(ValueError, match="2 folders hold features of 1 encoders only"):
        analyze_folders([tmp_path / "exact-cls"] * 2, tmp_path / "b")
