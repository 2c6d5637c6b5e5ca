"""Bad input to every verb: one clear line with what to do, exit code not zero, no traceback, nothing half-written."""

import os
import shutil
import subprocess
import sys

import pytest

from braindino.cli import main
from braindino.synthesis.packaged import packaged_volumes
from braindino.verbs import VERBS

PRETRAIN = "corpus = '{0}/corpus'\nsteps = 2\nbatch_size = 4\n"


@pytest.fixture
def place(tmp_path, cohort):
    """A folder with every kind of bad input in it, and a good cohort."""
    (tmp_path / "empty").mkdir()
    scan = next(cohort.glob("sub-*/anat/*_T1w.nii.gz"))
    data = scan.read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "x_T1w.nii.gz").write_bytes(data[: len(data) // 2])
    (tmp_path / "good.toml").write_text(PRETRAIN.format(tmp_path))
    (tmp_path / "typo.toml").write_text(PRETRAIN.format(tmp_path) + "bach_size = 3\n")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "foreign.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    shutil.copytree(cohort, tmp_path / "cohort")
    return tmp_path


CASES = [
    ("nonsense", "unknown verb 'nonsense'"),
    ("prepar x", "did you mean 'prepare'"),
    ("prepare {0}/none --out {0}/out", "no such file or folder"),
    ("prepare {0}/empty --out {0}/out", "no .nii or .nii.gz image"),
    ("prepare {0}/cut --out {0}/out", "truncated"),
    ("prepare xyz={0}/empty --out {0}/out", "unknown cohort 'xyz'; known:"),
    ("prepare bids={0}/empty --out {0}/out", "no anatomical image"),
    ("prepare {0}/cohort --out {0}/out --recipe.size-px 3", "recipe.size_px must be"),
    ("pretrain {0}/none.toml --out {0}/out", "no config file"),
    ("pretrain {0}/typo.toml --out {0}/out", "unknown key 'bach_size'; did you mean 'batch_size'"),
    ("pretrain {0}/good.toml --out {0}/out", "run 'braindino prepare' to completion first"),
    ("encode {0}/cohort --weights {0}/none.safetensors --out {0}/out", "none.safetensors"),
    ("encode {0}/cohort --weights {0}/foreign.safetensors --out {0}/out", "foreign.safetensors"),
    ("encode {0}/cut --weights {1} --out {0}/out", "truncated"),
    ("encode {0}/cohort --weights {1} --encoder braindin --out {0}/out", "did you mean 'braindino'"),
    ("fit --task brain_age --root {0}/none --features {0}/none --out {0}/out", "none"),
    ("fit --task brain_aeg --root {0}/cohort --features {0}/none --out {0}/out", "did you mean 'brain_age'"),
    ("fit --task brain_age --root {0}/cohort --features {0}/empty --out {0}/out", "run 'braindino encode'"),
    ("fit --task brain_age --root {0}/cohort --out {0}/out", "either --features"),
    ("predict --task brain_age --root {0}/cohort --features {0}/empty --head {0}/empty --out {0}/out", "encode"),
    ("score {0}/empty --out {0}/out", "run 'braindino predict'"),
    ("score --out {0}/out", "no predictions"),
    ("analyze {0}/empty --out {0}/out", "run 'braindino encode'"),
    ("report --out {0}/out", "nothing to report on"),
    ("report --out {0}/out --tasks brain_age", "--tasks needs the cohort's folder"),
    ("report --corpus {0}/empty --out {0}/out", "run 'braindino prepare'"),
    ("synthesize --healthy -1 --out {0}/out", "0 to 999"),
    ("synthesize --anatomy {0}/empty --out {0}/out", "no label maps"),
    ("demo --anatomy {0}/empty --out {0}/out", "no label maps"),
    ("list encoder", "did you mean 'encoders'"),
    ("check {0}/none", "no such file or folder"),
    ("check {0}/notes.txt", "expected a .nii"),
    ("check {0}/typo.toml", "did you mean"),
    ("check {0}/cut", "truncated"),
    ("check {0}/foreign.safetensors", "foreign.safetensors"),
]


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line.split(" --out")[0] for line, _ in CASES])
def test_bad_input_is_one_clear_line(place, weights, capsys, line, message):
    before = sorted(path for path in place.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(line.format(place, weights).split())
    error = capsys.readouterr().err
    if isinstance(stopped.value.code, str):
        error += stopped.value.code
    last = error.strip().splitlines()[-1]
    assert stopped.value.code not in (0, None)
    assert message in (" ".join(error.split()) if stopped.value.code == 2 else last), error
    assert "Traceback" not in error
    assert not list(place.rglob("record.json")) or "out" not in {p.parent.name for p in place.rglob("record.json")}
    assert not [path for path in place.rglob("*") if ".tmp-" in path.name]
    assert {p for p in before if p.name != "out"} <= set(place.rglob("*"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "--" in capsys.readouterr().out


def test_an_unknown_flag_is_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "braindino", "list", "--colour"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_check_says_what_is_good(place, weights, capsys):
    scan = packaged_volumes()["itk-head_T1w.nii.gz"]
    main(["check", str(scan), str(weights), f"synthetic={place / 'cohort'}", str(place / "good.toml")])
    out = capsys.readouterr().out
    assert "whole file verified" in out and "parameters" in out and "27 subjects" in out and "valid" in out


def test_prepare_then_encode_from_the_command_line(place, weights, capsys):
    main(f"prepare synthetic={place}/cohort --out {place}/corpus --recipe.spacing-mm 4 --recipe.size-px 48".split())
    assert "slices of 27 subjects from 72 scans" in capsys.readouterr().out
    main(f"encode synthetic={place}/cohort --weights {weights} --contrasts T1w --out {place}/features".split())
    assert "27 cases x 10 views x 32" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["nonsense"], 1), (["pretrain", "--nonsense"], 2)])
def test_a_rank_leaves_with_its_code_before_the_interpreter_is_taken_down(words, code):
    script = f"import atexit; atexit.register(print, 'finalised'); from braindino.cli import main; main({words!r})"
    said = {}
    for ranks in ({}, {"WORLD_SIZE": "2"}):
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | ranks, capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        said[bool(ranks)] = done.stdout + done.stderr
    assert "finalised" in said[False] and said[True] == said[False].replace("finalised\n", "")
