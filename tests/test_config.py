import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindino.config import from_dict, read_config, to_dict
from braindino.pretraining.config import CropConfig, PretrainConfig
from braindino.volume.recipe import Recipe

CONFIGS = Path(__file__).parent.parent / "src" / "braindino" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_config_reads_and_round_trips(path, tmp_path):
    config = read_config(path, PretrainConfig)
    assert from_dict(to_dict(config), PretrainConfig) == config


@given(st.integers(0, 20), st.floats(0, 1), st.lists(st.integers(1, 9), max_size=4))
def test_any_config_round_trips_through_plain_data(count, noise, odds):
    sizes = tuple((32 * odd, 16, 0, odd / sum(odds)) for odd in odds)
    config = CropConfig(local_count=count, noise=noise, sizes=sizes)
    assert from_dict(to_dict(config), CropConfig) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "corpus = 'c'\nsteps = 5\nbatch_size = 8\nbatchsize = 4",
            "unknown key 'batchsize'; did you mean 'batch_size'",
        ),
        ("corpus = 'c'\nsteps = 5\nbatch_size = 8\n[optim]\nrl = 1.0", "unknown key 'optim.rl'"),
        ("corpus = 'c'\nsteps = 'five'\nbatch_size = 8", "'steps' must be of type int, got 'five'"),
        ("corpus = 'c'\nsteps = true\nbatch_size = 8", "'steps' must be of type int"),
        ("corpus = 'c'\nsteps = 5\nbatch_size = 8\n[optim]\nbetas = [0.9]", "'optim.betas' must have 2 entries"),
        ("corpus = 'c'\nsteps = 5\nbatch_size = 8\n[model]\nffn = 'mlpp'", "'model.ffn' is 'mlpp'; did you mean 'mlp'"),
        ("corpus = 'c'\nsteps = 5\nbatch_size = 8\noptim = 3", "must be a table"),
        ("steps = 5\nbatch_size = 8", "missing key 'corpus'"),
        ("steps = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("(", r"\(")):
        read_config(path, PretrainConfig)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ValueError, match="no config file"):
        read_config(tmp_path / "none.toml", PretrainConfig)


def test_integers_widen_to_floats_and_lists_become_tuples():
    recipe = from_dict({"spacing_mm": 2, "clip_percent": [1, 99]}, Recipe)
    assert recipe.spacing_mm == 2.0 and isinstance(recipe.spacing_mm, float)
    assert recipe.clip_percent == (1.0, 99.0)


def test_a_run_is_repeated_from_its_record(tmp_path):
    from braindino.record import write_record

    config = read_config(CONFIGS / "tiny_stage1.toml", PretrainConfig)
    write_record(tmp_path, "pretrain", to_dict(config))
    assert read_config(tmp_path / "record.json", PretrainConfig) == config


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().slices = 3


def test_the_two_tiny_stages_share_model_and_heads():
    one, two = (read_config(CONFIGS / f"tiny_stage{n}.toml", PretrainConfig) for n in (1, 2))
    assert (one.model, one.dino_head, one.ibot_head) == (two.model, two.dino_head, two.ibot_head)
    assert two.crops.global_px > one.crops.global_px and two.loss.gram > 0 and one.loss.gram == 0


STAGE_2 = {
    "initial",
    "steps",
    "crops.sizes",
    "loss.local",
    "loss.gram",
    "teacher.momentum",
    "teacher.temperature",
    "teacher.temperature_warmup",
    "optim.lr",
    "optim.end_lr",
    "optim.warmup",
    "optim.weight_decay",
    "optim.freeze_last_layer",
}


def _flat(config, where=""):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{where}{field.name}.")
        else:
            yield f"{where}{field.name}", value


def test_the_diff_of_the_two_stages_is_stage_2():
    one, two = (dict(_flat(read_config(CONFIGS / f"stage{n}.toml", PretrainConfig))) for n in (1, 2))
    assert {name for name in one if one[name] != two[name]} == STAGE_2


@pytest.mark.parametrize("stage", [1, 2])
def test_every_value_of_a_stage_is_written_with_its_source(stage):
    text = (CONFIGS / f"stage{stage}.toml").read_text()
    head, body = text.split("\ncorpus = ", 1)
    assert "arXiv 2604.27277" in head or stage == 2
    for line in ("corpus = " + body).splitlines():
        if "=" in line.partition("#")[0]:
            assert "[" in line.partition("#")[2] or "our choice" in line, line
    written, model = tomllib.loads(text), read_config(CONFIGS / f"stage{stage}.toml", PretrainConfig)
    for part in ("dino_head", "ibot_head", "loss", "teacher", "optim"):
        fields = {field.name for field in dataclasses.fields(getattr(model, part))}
        assert fields - set(written[part]) <= {"unit_prototypes"}
