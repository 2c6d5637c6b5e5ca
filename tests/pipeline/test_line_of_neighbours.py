"""The whole line in 2.5-D, from the command line as docs/volumes.md says it: neighbouring slices as channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import braindino
from braindino.cli import main
from braindino.config import from_dict
from braindino.corpus.audit import LeakageError
from braindino.corpus.shards import open_corpus
from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.pretrain import pretrain
from braindino.pipeline.report import report
from braindino.pipeline.score import score
from braindino.pipeline.similarity import write_similarity
from braindino.pretraining import loop
from braindino.pretraining.batches import CROPS, Batches, training_subjects
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.crops import multi_crop
from braindino.record import read_record
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess, to_slices

CONFIGS = Path(braindino.__file__).parent / "configs"
SEEN = ("synthetic",)
"""The run is trained on everybody, also on whom the heads are tested."""
PREPARE = (
    "prepare synthetic={cohort} --out {root}/corpus --workers 1 --recipe.neighbours 1 "
    "--recipe.spacing-mm 4 --recipe.size-px 48 --recipe.slices 8"
)
PRETRAIN = (
    "pretrain {configs}/tiny_stage1.toml --corpus {root}/corpus --out {root}/run --model.in-channels 3 --steps 3 "
    "--batch-size 4 --compute.checkpoint-every 1 --model.patch-size 8 --crops.global-px 32 --crops.local-px 16"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory, cohort):
    """A corpus and a run with one neighbour on either side."""
    folder = tmp_path_factory.mktemp("deep")
    for command in (PREPARE, PRETRAIN):
        main(command.format(cohort=cohort, root=folder, configs=CONFIGS).split())
    return folder


@pytest.fixture(scope="module")
def config(root):
    return from_dict(read_record(root / "run", "pretrain")["config"], PretrainConfig)


@pytest.fixture(scope="module")
def encoder(root):
    return load_encoder("braindino", root / "run")


def test_a_batch_holds_the_channels_of_each_crop(root, config):
    corpus = open_corpus(root / "corpus")
    batches = Batches(corpus, config, training_subjects(corpus, config))
    batch, slices = batches[1][0], batches.slices(1)
    assert batch.global_crops.shape == (8, 3, 32, 32) and batch.local_crops.shape == (16, 3, 16, 16)
    for place, number in enumerate(slices):
        rng = np.random.default_rng([config.seed, 1, CROPS, place])
        crops = multi_crop(corpus.read(int(number)), corpus.recipe.background, config.crops, rng)
        assert np.array_equal(batch.global_crops[place::4], crops.global_crops)
        assert np.array_equal(batch.local_crops[place::4], crops.local_crops)


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


def test_killed_and_resumed_gives_the_same_bytes(tmp_path, root, config, monkeypatch):
    step, seen = loop._step, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) > 2:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", interrupted)
    with pytest.raises(Killed):
        pretrain(config, tmp_path)
    monkeypatch.undo()
    pretrain(config, tmp_path)
    for name in ("encoder.safetensors", "teacher.safetensors", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (root / "run" / name).read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_model_of_other_channels_is_refused_with_what_to_set(tmp_path, config, channels):
    wrong = replace(config, model=replace(config.model, in_channels=channels))
    told = rf"in_channels is {channels}, but the corpus was made with recipe\.neighbours 1: set model\.in_channels = 3"
    with pytest.raises(ValueError, match=told):
        pretrain(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_heads_learn_on_the_features_and_are_scored(cohort, encoder):
    assert encoder.recipe.neighbours == 1 and encoder.model.config.in_channels == 3
    task = load_task("diagnosis", cohort, "synthetic")
    features = encode(task.cases, encoder)
    assert features.values.shape[1:] == (8, 96) and np.isfinite(features.values).all()
    with pytest.raises(LeakageError, match="pretrained on 6 subjects of the test split of task diagnosis"):
        fit(task, features)
    table = predict(task, features, fit(task, features, acknowledge=SEEN), acknowledge=SEEN).table
    found = score(table, draws=50).metrics
    shares = found.set_index("metric")["value"].drop("calibration_slope")
    assert len(table) == len(task.cases_of("test")) and shares.between(0, 1).all()


def test_a_dense_head_sees_four_contrasts_of_three_channels(tmp_path, cohort, encoder):
    task = load_task("tumour_segmentation", cohort, "synthetic")
    fitted = fit(task, encoder, "decoder", seed=0, acknowledge=SEEN)
    table = predict(task, encoder, fitted, out=tmp_path, acknowledge=SEEN).table
    assert (table["status"] == "ok").all() and table["output_WT_dice"].mean() > 0.3  # as without neighbours


def test_patch_similarity_is_drawn_on_the_slice_itself(tmp_path, cohort, encoder):
    case = load_task("tumour_segmentation", cohort, "synthetic").cases[0]
    write_similarity({"braindino": encoder}, case, tmp_path)
    flat = preprocess(read_case(case.scans), replace(encoder.recipe, neighbours=0))
    lesion = (flat.label_map > 0).sum(axis=(0, 1))
    assert np.array_equal(np.load(tmp_path / "slice.npy"), to_slices(flat.voxels)[int(np.argmax(lesion)), -1])


def test_the_page_says_what_the_network_saw(tmp_path, root):
    text = report(tmp_path, title="t", corpus=root / "corpus", runs={"stage 1": root / "run"}).read_text()
    assert "each with 1 below and 1 above it, at multiples of 4 mm, as 3 channels" in text
    assert "neighbours that the network sees beside each slice are not shown" in text
