"""check: weights of others, key by key in short form."""

import pytest
import torch

import foreign_layouts as layouts
import volume_layouts
from braindino.cli import main
from braindino.pipeline.check import check


def test_check_tells_dialect_size_and_counts(tmp_path, capsys):
    path = tmp_path / "teacher.pth"
    state = layouts.official(bias=False)
    torch.save({"teacher": {f"backbone.{k}": v for k, v in state.items()} | {"dino_head.x": torch.ones(1)}}, path)
    assert check(str(path)) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: complete and finite, 3 channels; meddinov3 weights under 'teacher.backbone.'")
    assert "dim 32, depth 2, heads 2" in lines[0] and "34 taken, 0 transformed, 0 computed, 1 ignored" in lines[0]
    assert lines[1:] == [
        "  assumed: norm_eps 1e-06, RoPE in bfloat16",
        "  ignored 1: not under teacher.backbone.",
    ]


def test_check_ends_with_the_problems(tmp_path, capsys):
    state = layouts.hugging_face(layouts.official())
    del state["norm.bias"]
    torch.save(state, tmp_path / "model.bin")
    (tmp_path / "config.json").write_text('{"num_attention_heads": 2}')
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(tmp_path / "model.bin")])
    assert "model.bin does not fit:\nhugging_face weights" in stopped.value.code
    assert stopped.value.code.splitlines()[-1] == "  missing: norm.bias (for norm.bias (32,))"


def test_check_knows_encoders_of_whole_volumes(tmp_path, capsys):
    state = volume_layouts.weights(volume_layouts.bm_mae())
    torch.save(state, tmp_path / "bmmae.pth")
    assert check(str(tmp_path / "bmmae.pth")) == []
    assert "complete and finite, for --encoder bm_mae; BM-MAE" in capsys.readouterr().out
    del state["norm.bias"]
    torch.save(state, tmp_path / "cut.pth")
    (problem,) = check(str(tmp_path / "cut.pth"))
    assert "missing: norm.bias" in problem


def test_check_never_runs_a_file(tmp_path):
    class Bad:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'mark')!r}, 'w')",)

    torch.save({"cls_token": Bad()}, tmp_path / "bad.ckpt")
    (problem,) = check(str(tmp_path / "bad.ckpt"))
    assert "it asks for exec" in problem
    assert not (tmp_path / "mark").exists()
