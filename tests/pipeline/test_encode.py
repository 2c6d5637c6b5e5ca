"""encode into a folder: resumed, in parallel, perturbed, with patch tokens, other slices, any contrast."""

import hashlib
import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from braindino import catalog, record
from braindino.cli import main
from braindino.pipeline import encode_jobs, parts
from braindino.pipeline.encode import (
    EncoderChoice,
    How,
    encode,
    encode_folder,
    load_encoder,
    read_features,
    read_patches,
)
from braindino.pipeline.encoding import rows
from braindino.pipeline.features import identity
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.record import read_record
from braindino.volume.io import read_case


@pytest.fixture(scope="module")
def cases(cohort):
    return catalog.load("cohorts", "synthetic").cases(cohort)


@pytest.fixture(scope="module")
def choice(weights):
    return EncoderChoice("braindino", weights)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def hashes(folder):
    names = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    kept = [path for path in names if path.name != "record.json"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def same(one, other):
    assert np.array_equal(one.values, other.values, equal_nan=True)
    assert np.array_equal(one.position_mm, other.position_mm, equal_nan=True)
    assert one.cases.equals(other.cases)


def test_a_folder_holds_what_encode_gives(tmp_path, cases, choice):
    how = How(("T1w",))
    found = encode_folder(cases[:5], choice, tmp_path / "f", how, parents={"scans": "x"})
    same(found, encode(cases[:5], choice.load(), ("T1w",)))
    assert set(hashes(tmp_path / "f")) == {"values.npy", "position_mm.npy", "cases.tsv"}
    record = read_record(tmp_path / "f")
    assert record["facts"]["recipe"]["slices"] == 10 and record["config"]["variant"] == "exact"
    assert record["config"]["recipe"] == choice.load().recipe.hash()


def test_a_finished_folder_is_opened_and_no_other_one_is_overwritten(tmp_path, cases, choice, monkeypatch):
    first = encode_folder(cases[:3], choice, tmp_path / "f", How(("T1w",)))
    with monkeypatch.context() as patch:
        patch.setattr("braindino.pipeline.encode.encode_parts", None)
        same(encode_folder(cases[:3], choice, tmp_path / "f", How(("T1w",))), first)
    for other in (cases[:4], How(("T1w",), "mean_patch"), replace(choice, slices=4)):
        given = [cases[:3], choice, tmp_path / "f", How(("T1w",))]
        given[0 if isinstance(other, tuple) else 3 if isinstance(other, How) else 1] = other
        with pytest.raises(ValueError, match="holds parts of other features"):
            encode_folder(*given)


def test_what_is_finished_is_not_computed_again(tmp_path, cases, choice, monkeypatch):
    whole = encode_folder(cases[:5], choice, tmp_path / "whole", How(("T1w",)))
    real, done = parts.write_part, []

    def dies(out, number, row):
        if len(done) == 3:
            raise KeyboardInterrupt
        real(out, number, row)
        done.append(number)

    with monkeypatch.context() as patch:
        patch.setattr(encode_jobs, "write_part", dies)
        with pytest.raises(KeyboardInterrupt):
            encode_folder(cases[:5], choice, tmp_path / "f", How(("T1w",)))
    part = tmp_path / "f" / "parts" / "000001.npz"
    part.write_bytes(part.read_bytes()[:-40])  # as no write of this package leaves it
    monkeypatch.setattr(encode_jobs, "write_part", lambda *given: (done.append(given[1]), real(*given)))
    same(encode_folder(cases[:5], choice, tmp_path / "f", How(("T1w",))), whole)
    assert done == [0, 1, 2, 1, 3, 4]
    assert hashes(tmp_path / "f") == hashes(tmp_path / "whole")


def test_killed_at_random_and_run_again_gives_the_same_bytes(tmp_path, zygote, cohort, weights):
    line = f"encode synthetic={cohort} --weights {weights} --contrasts T1w --level patch".split()
    code, _, said = zygote.run([*line, "--out", tmp_path / "whole"], tmp_path / "log")
    assert code == 0, said
    chance, finished = random.Random(7), tmp_path / "out" / "parts"
    for wanted in (2, 9, 17):
        pid = zygote.start([*line, "--out", tmp_path / "out"], tmp_path / "log")
        until = time.monotonic() + 60
        while len(list(finished.glob("*.npz"))) < wanted and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        assert zygote.wait(pid) == -signal.SIGKILL
        assert wanted <= len(list(finished.glob("*.npz"))) < 27
        with pytest.raises(ValueError, match="unfinished"):
            read_features(tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "patch").glob("*.npy")}
    code, _, said = zygote.run([*line, "--out", tmp_path / "out"], tmp_path / "log")
    assert code == 0, said
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    kept = [(tmp_path / "out" / "patch" / name).stat().st_mtime_ns == then for name, then in before.items()]
    assert sum(kept) >= 17  # these were not computed again
    hidden = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")}
    assert hidden <= {".plan.json", ".lock"}


def test_workers_give_the_same_bytes(tmp_path, cases, choice, one_thread):
    encode_folder(cases[:4], choice, tmp_path / "here", How(("T1w",)))
    encode_folder(cases[:4], choice, tmp_path / "there", How(("T1w",)), workers=2)
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")


def test_patch_tokens_are_kept_and_their_size_is_told(tmp_path, cases, choice, capsys):
    found = encode_folder(cases[:3], choice, tmp_path / "f", How(("T1w",), level="patch"))
    told = capsys.readouterr().err
    assert "patch tokens: 3 cases x 10 views x 36 patches x 32 as float16 are 0.07 MB" in told
    case = cases[1]
    scans = [scan for scan in case.scans if scan.contrast == "T1w"]
    tokens = choice.load().tokens(read_case(scans), patches=True)
    kept = read_patches(found, case.name)
    assert kept.dtype == np.float16 and np.array_equal(kept, tokens.patch.astype(np.float16))
    assert "patch/000001.npy" in read_record(tmp_path / "f")["files"]
    with pytest.raises(ValueError, match="no case 'nobody'"):
        read_patches(found, "nobody")
    with pytest.raises(ValueError, match="encode with --level patch"):
        read_patches(encode_folder(cases[:1], choice, tmp_path / "g", How(("T1w",))), case.name)


def test_a_disk_too_small_for_patch_tokens_is_refused(tmp_path, cases, choice, monkeypatch):
    monkeypatch.setattr(record, "free_bytes", lambda folder: 20_000)
    with pytest.raises(ValueError, match=r"are 0.07 MB, but .* has 0.02 MB free; take fewer --slices, --level cls"):
        encode_folder(cases[:3], choice, tmp_path / "f", How(("T1w",), level="patch"))
    monkeypatch.undo()
    assert encode_folder(cases[:3], choice, tmp_path / "f", How(("T1w",), level="patch")).values.shape == (3, 10, 32)


def test_slices_and_size_are_those_asked_for(cases, choice, weights):
    for size in (48, 64):
        encoder = replace(choice, slices=7, size_px=size).load()
        found = encode(cases[:1], encoder, ("T1w",))
        assert found.values.shape == (1, 7, 32) and found.recipe == encoder.recipe.hash() != choice.load().recipe.hash()
    with pytest.raises(ValueError, match="size_px 50 is no multiple of the patch size 8"):
        replace(choice, size_px=50).load()


def test_any_contrast_encodes_what_is_there(tmp_path, cases, choice):
    wanted = ("T1w", "T2w", "T1ce")
    few = [c for c in cases if len(c.scans) < 4][:2]
    all_of_them = [c for c in cases if len(c.scans) == 4][:2]
    strict = encode([*few, *all_of_them], choice.load(), wanted)
    assert [status == "ok" for status in strict.cases["status"]] == [False, False, True, True]
    found = encode_folder([*few, *all_of_them], choice, tmp_path / "f", How(wanted, any_contrast=True))
    assert list(found.cases["status"]) == ["ok"] * 4
    assert list(found.cases["missing"]) == ["T2w T1ce", "T2w T1ce", "", ""]
    assert np.isfinite(found.values[:2, :10]).all() and np.isnan(found.values[:2, 10:]).all()
    assert np.isnan(found.position_mm[:2, 10:]).all() and np.isfinite(found.values[2:]).all()
    assert found.contrasts == ("T1w",) * 10 + ("T2w",) * 10 + ("T1ce",) * 10
    assert np.array_equal(found.values[:2, :10], encode(few, choice.load(), ("T1w",)).values)
    assert np.array_equal(found.values[2:], strict.values[2:])
    with pytest.raises(ValueError, match="has no PDw"):
        encode(few, choice.load(), ("PDw",), any_contrast=True)


def test_a_perturbation_changes_the_volume_and_severity_0_nothing(tmp_path, cases, choice):
    clean = encode(cases[:3], choice.load(), ("T1w",))
    none = encode_folder(cases[:3], choice, tmp_path / "0", How(("T1w",), perturbation="noise", severity=0, seed=5))
    assert np.array_equal(none.values, clean.values) and none.perturbation == "noise"
    how = How(("T1w",), perturbation="noise", severity=3, seed=1)
    found = encode_folder(cases[:3], choice, tmp_path / "3", how)
    assert (found.perturbation, found.severity, found.seed) == ("noise", 3, 1)
    assert (found.values != clean.values).any(axis=(1, 2)).all()
    alone = encode(cases[2:3], choice.load(), ("T1w",), perturbation="noise", severity=3, seed=1)
    assert np.array_equal(alone.values[0], found.values[2])  # drawn for the subject, whoever stands beside it
    other = encode(cases[2:3], choice.load(), ("T1w",), perturbation="noise", severity=3, seed=2)
    assert not np.array_equal(alone.values, other.values)


def test_a_clean_head_predicts_on_perturbed_features(cohort, cases, choice):
    task = load_task("diagnosis", cohort, "synthetic")
    clean = encode(task.cases, choice.load())
    changed = encode(task.cases, choice.load(), perturbation="noise", severity=2)
    fitted = fit(task, clean)
    table = predict(task, changed, fitted).table
    assert set(table["perturbation"]) == {"noise"} and set(table["severity"]) == {2}
    assert not table["output_dementia"].equals(predict(task, clean, fitted).table["output_dementia"])


@pytest.mark.parametrize(("how", "message"), [
    ({"severity": 2}, "of which perturbation"),
    ({"severity": 6, "perturbation": "x"}, "expected 0 .no change. to 5"),
    ({"perturbation": "niose"}, "unknown perturbation 'niose'; did you mean 'noise'"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        How(("T1w",), **how)


def test_the_next_case_is_read_while_one_is_computed(cases, choice):
    """The encoder waits, in its first case, until the second one is being prepared."""
    import threading

    real, second = choice.load(), threading.Event()

    class Slow:
        name, dim, recipe, digest = real.name, real.dim, real.recipe, real.digest
        prepared = 0

        def prepare(self, volume):
            self.prepared += 1
            if self.prepared == 2:
                second.set()
            return real.prepare(volume)

        def tokens_of(self, prepared, *, patches=False):
            assert second.wait(20)
            return real.tokens_of(prepared, patches=patches)

        def tokens(self, volume, *, patches=False, every_slice=False):
            raise AssertionError("prepare and tokens_of are used instead")

    found = list(rows(cases[:3], Slow(), How(("T1w",))))
    assert [row.status for row in found] == ["ok"] * 3
    assert np.array_equal(found[2].values, encode(cases[2:3], real, ("T1w",)).values[0])


def test_variants_are_named_and_listed(weights, capsys):
    with pytest.raises(ValueError, match="unknown variant 'brian' of braindino; did you mean 'brain'"):
        load_encoder("braindino", weights, variant="brian")
    with pytest.raises(ValueError, match="needs weights"):
        load_encoder("braindino")
    exact, wide, brain = (load_encoder("braindino", weights, variant=name) for name in ("exact", "bf16", "brain"))
    assert len({exact.digest(), wide.digest(), brain.digest()}) == 3
    assert brain.digest() == load_encoder("braindino", weights, variant="brain").digest()
    assert [identity(one, How(("T1w",)))["variant"] for one in (exact, wide, brain)] == ["exact", "bf16", "brain"]
    main(["list", "encoders"])
    assert "--variant exact | bf16 | brain (the first is the default)" in capsys.readouterr().out


def test_the_command_line_says_failures_and_goes_on(tmp_path, cohort, weights, capsys):
    line = f"encode synthetic={cohort} --weights {weights} --contrasts T2w --slices 4 --size-px 64"
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main([*line.split(), "--out", str(tmp_path / "f")])
        said = capsys.readouterr()
        assert stop.value.code == 1 and "9 cases x 4 views x 32" in said.out and said.err.count("has no T2w") == 18
    main([*line.split(), "--any-contrast", "--contrasts", "T1w", "T2w", "--out", str(tmp_path / "g")])
    assert read_features(tmp_path / "g").cases["missing"].value_counts().to_dict() == {"T2w": 18, "": 9}
