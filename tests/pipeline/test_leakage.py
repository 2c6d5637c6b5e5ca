"""Who was pretrained on, or trained a head, is refused among the subjects that are reported on, or named."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.corpus.audit import LeakageError, name_digest
from braindino.model.config import ViTConfig
from braindino.model.weights import load_encoder as read_encoder
from braindino.model.weights import save_encoder
from braindino.pipeline.encode import load_encoder, read_features, write_features
from braindino.pipeline.fit import fit, read_head, write_head
from braindino.pipeline.leakage import pretrained, refuse_pretrained
from braindino.pipeline.predict import predict, read_predictions, write_predictions
from braindino.pipeline.pretrain import pretrain
from braindino.pipeline.score import score
from braindino.pretraining.config import CropConfig, HeadConfig, LossConfig, PretrainConfig
from braindino.pretraining.initial import seen_before
from braindino.tasks import divided, training_cases
from braindino.types import Case, Features, Scan
from corpora import heads_corpus
from people import question


def features_of(task, seen=None):
    """Features that know the age but for noise."""
    rng = np.random.default_rng(0)
    signal = np.array([[[float(case.participant["age"]) / 50 - 1]] for case in task.cases])
    values = signal @ np.ones((1, 1, 3)) + 0.1 * rng.standard_normal((len(task.cases), 1, 3))
    rows = [(c.name, c.subject, c.session, c.site, "ok") for c in task.cases]
    table = pd.DataFrame(rows, columns=["case", "subject", "session", "site", "status"])
    position = np.zeros((len(rows), 1), np.float32)
    digests = None if seen is None else frozenset(map(name_digest, seen))
    return Features(values.astype(np.float16), position, table, "e", "d", "r", ("T1w",), seen=digests)


def test_a_test_subject_that_was_pretrained_on_is_refused_unless_named(tmp_path):
    task = question("brain_age")
    test, train = task.cases_of("test")[0].subject, task.cases_of("train")[0].subject
    features = features_of(task, [f"c/{test}", f"c/{train}", "other/s000"])
    with pytest.raises(
        LeakageError, match=rf"pretrained on 1 subjects of the test split of task brain_age \(c/{test}\)"
    ):
        fit(task, features)
    for names in ((f"c/{test}",), ("c",)):
        fitted = fit(task, features, acknowledge=names)
        with pytest.raises(LeakageError, match="name each, or their cohort, with --acknowledge"):
            predict(task, features, fitted)
        table = predict(task, features, fitted, acknowledge=names).table
        assert list(table["subject"][table["pretrained"] == "yes"]) == [test]
        assert set(table["pretrained"]) == {"yes", "no"}
    assert set(predict(task, features, fitted, split="train").table["pretrained"]) == {"yes", "no"}
    with pytest.raises(ValueError, match=f"acknowledge names 'c/{train}', which is not reported on"):
        fit(task, features, acknowledge=(f"c/{test}", f"c/{train}"))
    write_features(features, tmp_path)
    assert read_features(tmp_path).seen == features.seen
    with pytest.raises(LeakageError):
        fit(task, read_features(tmp_path))


def test_the_person_under_another_name_is_found(tmp_path):
    task = question("brain_age")
    test = task.cases_of("test")[0].subject
    found = tuple(
        replace(c, participant={**c.participant, "also_in": "brats2021/b7"}) if c.subject == test else c
        for c in task.cases
    )
    features = features_of(task, ["brats2021/b7"])
    with pytest.raises(LeakageError, match="brats2021/b7"):
        refuse_pretrained(replace(task, cases=found), features)
    refuse_pretrained(task, features)


def test_what_the_paper_reports_on_is_validation():
    task = divided(question("brain_age"), "paper", 0)
    seen = [f"c/{task.cases_of('validation')[0].subject}"]
    with pytest.raises(LeakageError, match="of the validation split"):
        fit(task, features_of(task, seen))
    fitted = fit(task, features_of(task, []))
    with pytest.raises(ValueError, match="no cases in split 'test'; the paper's protocol reports on validation"):
        predict(task, features_of(task, []), fitted)


def test_weights_of_others_are_unknown(tmp_path):
    task = question("brain_age")
    features = features_of(task)
    table = predict(task, features, fit(task, features)).table
    assert set(table["pretrained"]) == {"unknown"}
    write_features(features, tmp_path)
    assert read_features(tmp_path).seen is None and not (tmp_path / "seen.json").exists()


def test_a_head_of_another_split_is_refused(tmp_path):
    task = question("brain_age")
    features = features_of(task)
    write_head(fit(task, features), tmp_path)
    fitted = read_head(tmp_path)
    assert (fitted.cohort, fitted.protocol) == ("c", "three_way")
    for other in (question("brain_age", seed=1), divided(task, "paper", 0), divided(task, "site:a", 0)):
        split = "validation" if other.protocol == "paper" else "test"
        with pytest.raises(LeakageError, match=r"was trained on .* validation or test subjects of this split"):
            predict(other, features, fitted, split=split)
    assert len(predict(replace(task, cohort="elsewhere"), features, fitted).table)  # other people of these names


def test_numbers_of_two_protocols_are_never_put_together(tmp_path):
    task = question("days_since_stroke")
    features, tables = features_of(task), []
    for protocol, split in (("three_way", "validation"), ("paper", "validation"), ("three_way", "test")):
        asked = divided(task, protocol, 0)
        for head in ("linear", "prior"):
            table = predict(asked, features, fit(asked, features, head), split=split)
            tables.append(table.table)
    write_predictions(table, tmp_path)
    assert set(read_predictions(tmp_path).table["protocol"]) == {"three_way"}
    scores = score(tables, draws=50)
    mae = scores.metrics[scores.metrics["metric"] == "mae"].set_index(["protocol", "split", "head"])
    assert len(mae) == 6 and len(scores.comparisons) == 3
    assert set(zip(scores.comparisons["protocol"], scores.comparisons["split"], strict=True)) == {
        ("three_way", "validation"),
        ("paper", "validation"),
        ("three_way", "test"),
    }
    old = score([one.drop(columns="protocol") for one in tables[:2]], draws=50).metrics
    assert set(old["protocol"]) == {"three_way"}


def test_the_trivial_answer_in_days_by_hand():
    """The prior head answers exp(mean of ln(1 + days)) - 1 of the training subjects, not their mean."""
    task = question("days_since_stroke")
    features = features_of(task)
    days = [float(case.participant["days_since_stroke"]) for case in training_cases(task, 1.0, 0)]
    table = predict(task, features, fit(task, features, "prior")).table
    assert table["output"].to_numpy() == pytest.approx(np.exp(np.mean(np.log1p(days))) - 1)
    assert table["output"].iloc[0] < np.mean(days) / 2
    assert table["target"].to_numpy() == pytest.approx(
        [float(c.participant["days_since_stroke"]) for c in task.cases_of("test")]
    )
    metrics = score(table, draws=50).metrics.set_index("metric")["value"]
    assert metrics["mae"] == pytest.approx(np.abs(table["output"] - table["target"]).mean())


def test_an_encoder_tells_whom_both_stages_were_trained_on(tmp_path):
    """From the corpus over two runs of one step to the encoder: excluded ones are not told, those of stage 1 are."""
    corpus = heads_corpus(tmp_path, 5)
    names = sorted(corpus.slices_of_subject)
    small = HeadConfig(hidden=32, bottleneck=16, prototypes=64)
    first = PretrainConfig(
        corpus=corpus.folder,
        steps=1,
        batch_size=2,
        loss=LossConfig(koleo=0.0),
        exclude=(names[0], names[1]),
        model=ViTConfig(dim=32, depth=1, heads=2, patch_size=8),
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=small,
        ibot_head=small,
    )
    pretrain(first, tmp_path / "one")
    pretrain(replace(first, initial=tmp_path / "one", exclude=(names[0], names[2])), tmp_path / "two")
    cases = [Case(name, (Scan(*name.split("/"), "T1w", tmp_path),)) for name in names]
    for run, answers in (("one", ["no", "no", "yes", "yes", "yes"]), ("two", ["no", "yes", "yes", "yes", "yes"])):
        encoder = load_encoder("braindino", tmp_path / run)
        assert pretrained(cases, encoder) == answers
        assert pretrained(cases, load_encoder("random_init", tmp_path / run)) == ["no"] * 5
    source = json.loads(json.dumps(read_encoder(tmp_path / "one" / "encoder.safetensors")[1]["source"]))
    del source["seen"]
    model, metadata = read_encoder(tmp_path / "one" / "encoder.safetensors")
    save_encoder(tmp_path / "old.safetensors", model, metadata["recipe"], source)
    assert pretrained(cases, load_encoder("braindino", tmp_path / "old.safetensors")) == ["unknown"] * 5
    assert seen_before(tmp_path / "old.safetensors") is None and seen_before(None) == []
