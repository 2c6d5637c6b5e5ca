"""The plan against torch: parameters and state exactly, FLOPs by torch's counter, memory by what autograd keeps."""

import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from braindino.cli import main
from braindino.config import read_config
from braindino.model.config import ViTConfig, preset
from braindino.model.vit import VisionTransformer
from braindino.pretraining.config import CropConfig, HeadConfig, LossConfig, PretrainConfig
from braindino.pretraining.flops import step_flops
from braindino.pretraining.hardware import Hardware
from braindino.pretraining.masks import sample_masks
from braindino.pretraining.memory import rank_memory
from braindino.pretraining.networks import Batch, Network
from braindino.pretraining.plan import plan
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.size import parameters, work
from braindino.pretraining.step import Temperatures, student_loss, teacher_targets
from test_config import CONFIGS

SAMPLES = 8
VIT = ViTConfig(dim=96, depth=3, heads=3, patch_size=8)
HEAD = HeadConfig(hidden=64, bottleneck=32, prototypes=128)
CROPS = CropConfig(global_px=64, local_px=32, local_count=4)
BASE = PretrainConfig(
    Path("corpus"), 10, SAMPLES, Path("stage1"), model=VIT, crops=CROPS, dino_head=HEAD, ibot_head=HEAD
)
SWIGLU = replace(
    VIT, ffn="swiglu", drop_path=0.3, qkv_bias=False, layer_scale=None, untie_cls_and_patch_norms=True, storage_tokens=0
)
RUNS = {
    "plain": BASE,
    "no local crops, Gram": replace(
        BASE, loss=LossConfig(gram=1.5), crops=replace(CROPS, local_count=0, gram_px=96), model=replace(VIT, depth=2)
    ),
    "SwiGLU, drop path": replace(BASE, model=replace(SWIGLU, untie_global_and_local_cls_norm=True)),
    "no masks": replace(BASE, loss=LossConfig(mask_probability=0.0, koleo=0.0)),
    "many prototypes, Gram at the same size": replace(
        BASE,
        ibot_head=replace(HEAD, prototypes=4096, unit_prototypes=True),
        loss=LossConfig(gram=1.5, mask_ratio=(0.3, 0.6)),
        model=replace(VIT, drop_path=0.2),
    ),
    "tiny": replace(BASE, batch_size=4, model=preset("tiny", depth=6), crops=CropConfig(global_px=96, local_px=48)),
    "small": replace(
        BASE,
        batch_size=4,
        model=preset("small", depth=3),
        crops=replace(CROPS, global_px=96),
        dino_head=HeadConfig(1024, 64, 512),
    ),
}
EACH_RUN = pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)


def _networks(config):
    student, teacher = Network(config).train(), Network(config).eval().requires_grad_(False)
    gram_teacher = VisionTransformer(config.model).eval().requires_grad_(False) if config.loss.gram > 0 else None
    return student, teacher, gram_teacher


def _batch(config):
    (global_px, local_px, gram_px, _), count, samples = (
        config.crops.shares[0],
        config.crops.local_count,
        config.batch_size,
    )
    side = global_px // config.model.patch_size
    shares = {"probability": config.loss.mask_probability, "ratio": config.loss.mask_ratio}
    masks = sample_masks(np.random.default_rng(0), 2 * samples, (side, side), **shares)
    sides = ((2 * samples, global_px), (count * samples, local_px), (2 * samples, gram_px or global_px))
    return Batch(*(torch.randn(images, 1, px, px) for images, px in sides), torch.from_numpy(masks))


def _loss(networks, batch, config, precision="fp32"):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        student, teacher, gram_teacher = networks
        (targets,) = teacher_targets(teacher, [batch], config.loss, 0.07, Ranks())
        crops = [batch.global_crops] + ([batch.local_crops] if len(batch.local_crops) else [])
        seen = student(crops, [batch.patch_masks, None][: len(crops)], batch.patch_masks)
        return student_loss(seen, targets, batch, config.loss, Temperatures(0.07, 0.1), Ranks(), gram_teacher)["total"]


@EACH_RUN
def test_parameters_are_exact(config):
    student = _networks(config)[0]
    modules = {"backbone": student.backbone, "DINO head": student.dino_head, "iBOT head": student.ibot_head}
    assert parameters(config) == {n: sum(p.numel() for p in m.parameters()) for n, m in modules.items()}


def test_parameters_of_the_paper():
    """85,641,984 with three channels (arXiv 2604.27277, released code); ours has one."""
    model = read_config(CONFIGS / "stage1.toml", PretrainConfig).model
    config = replace(BASE, model=replace(model, in_channels=3))
    assert parameters(config)["backbone"] == 85_641_984
    assert parameters(replace(BASE, model=preset("7b", in_channels=3)))["backbone"] == 6_716_043_264


@EACH_RUN
def test_flops_are_those_of_torchs_counter(config):
    batch, networks = _batch(config), _networks(config)
    aten = torch.ops.aten
    fused = {  # torch counts these kernels on a GPU only
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, out_shape, **__: sdpa_flop(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda g, q, k, v, *_, out_shape, **__: sdpa_backward_flop(g, q, k, v)
        ),
        torch.ops.mkldnn._linear_pointwise: lambda x, w, *_, out_shape, **__: 2 * prod(out_shape) * w[-1],
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        loss = _loss(networks, batch, config)
        forward = counter.get_total_flops()
        loss.backward()
    step = work(config, config.batch_size, config.crops.shares[0])
    assert step.masked == int(batch.patch_masks.sum())
    parts = step_flops(config, step)
    assert sum(part.forward for part in parts) == pytest.approx(forward, rel=0.002)
    assert sum(part.total for part in parts) == pytest.approx(counter.get_total_flops(), rel=0.002)
    again = step_flops(config, step, checkpointing=True)[-1]
    blocks = sum(part.forward for part in parts[:2])
    assert 0.9 * blocks < again.total <= blocks


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@EACH_RUN
def test_saved_bytes_are_those_that_autograd_keeps(config, precision):
    batch, networks = _batch(config), _networks(config)
    known = {t.untyped_storage().data_ptr() for t in (*networks[0].parameters(), *networks[0].buffers())}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(networks, batch, config, precision)
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in known)
    assert torch.isfinite(loss)
    step = work(config, config.batch_size, config.crops.shares[0])
    memory = rank_memory(config, Hardware(precision=precision), step, step)
    assert sum(memory.kept.values()) == pytest.approx(found, rel=0.02)


class Peak(TorchDispatchMode):
    """Live bytes of all tensors that operations return, and their peak; temporaries inside a kernel are not seen."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize("checkpointing", [False, True])
@EACH_RUN
def test_the_peak_of_a_step_is_predicted_within_a_fifth(config, checkpointing):
    batch = _batch(config)
    with Peak() as tracker:
        networks = _networks(config)
        optimiser = torch.optim.AdamW(networks[0].parameters(), fused=True)
        if checkpointing:
            for block in networks[0].backbone.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        for _ in range(2):
            optimiser.zero_grad()
            _loss(networks, batch, config).backward()
            optimiser.step()
            tracker.peak = tracker.live if _ == 0 else tracker.peak
    step = work(config, config.batch_size, config.crops.shares[0])
    memory = rank_memory(config, Hardware(precision="fp32", checkpointing=checkpointing), step, step)
    state = sum(memory.state.values())
    held = sum(p.numel() * 4 for network in networks if network is not None for p in network.parameters())
    moments = sum(v.numel() * 4 for s in optimiser.state.values() for n, v in s.items() if n != "step")
    assert state == held + sum(p.grad.numel() * 4 for p in networks[0].parameters()) + moments
    assert memory.peak == pytest.approx(tracker.peak, rel=0.2)


def test_a_larger_machine_or_a_thriftier_use_needs_less_memory_for_the_same_work():
    config = read_config(CONFIGS / "stage2.toml", PretrainConfig)
    one = Hardware(gpus=8, micro_batch=8)
    base = plan(config, one)
    for thrift in ({"sharding": "fsdp"}, {"checkpointing": True}, {"micro_batch": 2}, {"gpus": 64}):
        other = plan(config, replace(one, **thrift))
        assert other.memory.peak < base.memory.peak, thrift
        assert other.flops >= 0.85 * base.flops  # drop path rounds up: of the 2 global crops of a slice it skips 1
        assert sum(other.tokens.values()) == sum(base.tokens.values())
    assert plan(config, replace(one, precision="fp32")).memory.peak > base.memory.peak
    sharded = plan(config, replace(one, sharding="fsdp")).memory.state
    assert sharded["AdamW"] * 8 == base.memory.state["AdamW"] == 8 * sum(base.parameters.values())


def test_the_largest_micro_batch_that_fits_is_found():
    config = read_config(CONFIGS / "stage2.toml", PretrainConfig)
    found = plan(config, Hardware(gpus=8))
    assert found.fits and found.micro_batch == found.largest < found.rank_batch == 64
    assert not plan(config, Hardware(gpus=8, micro_batch=2 * found.largest)).fits
    none = plan(config, Hardware(gpus=8, gpu_memory=4))
    assert not none.fits and none.largest == 0 and none.micro_batch == 2


def test_only_a_micro_batch_that_training_takes_is_named():
    """8 ranks with a slice each have no 16 neighbours for KoLeo; without KoLeo a slice at a time is enough."""
    config = read_config(CONFIGS / "stage2.toml", PretrainConfig)
    tight = Hardware(gpus=8, gpu_memory=4)
    assert plan(config, tight).micro_batch == 2
    assert plan(replace(config, loss=replace(config.loss, koleo=0.0)), tight).micro_batch == 1
    with pytest.raises(ValueError, match="koleo looks for neighbours among 16 slices, but a pass holds 1 on each of 8"):
        plan(config, replace(tight, micro_batch=1))


def test_days_and_epochs_by_hand():
    config = replace(BASE, steps=1000, batch_size=64)
    found = plan(config, Hardware(gpus=2, peak=1.0, efficiency=0.5, slices=6400))
    assert found.seen == 64_000 and found.days * 86_400 == pytest.approx(found.flops / 1e12)
    assert found.flops == 1000 * sum(part.total for part in found.parts)


def test_mixed_sizes_are_averaged_in_work_and_the_largest_counts_in_memory():
    rows = ((64, 32, 0, 0.25), (128, 32, 0, 0.75))
    mixed = plan(replace(BASE, crops=replace(CROPS, sizes=rows)), Hardware())
    small, large = (plan(replace(BASE, crops=replace(CROPS, global_px=px)), Hardware()) for px in (64, 128))
    assert mixed.memory == large.memory
    assert mixed.flops == pytest.approx(0.25 * small.flops + 0.75 * large.flops)
    assert mixed.tokens["teacher"] == 0.25 * small.tokens["teacher"] + 0.75 * large.tokens["teacher"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--gpus 3", "batch_size 512 is no multiple of --gpus 3"),
        ("--gpus 8 --micro-batch 5", "--micro-batch 5 does not divide the 64 slices of a rank"),
        ("--gpu v100", "a v100 has no bf16"),
        ("--efficiency 40", "efficiency"),
        ("--gpus 0", "gpus"),
    ],
)
def test_an_impossible_machine_is_refused_in_one_line(capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", str(CONFIGS / "stage1.toml"), "--plan", *flags.split()])
    error = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code and message in error and "Traceback" not in error


@pytest.mark.parametrize("stage", [1, 2])
def test_plan_answers_without_corpus_and_without_torch_what_the_docs_show(stage):
    words = ["pretrain", "--plan", str(CONFIGS / f"stage{stage}.toml"), "--gpus", "8", "--gpu-memory", "80"]
    code = f"import sys; from braindino.cli import main; main({words!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    shown = (CONFIGS.parents[2] / "docs" / "pretraining.md").read_text().split(f"Stage {stage}, `braindino")[1]
    assert [line for line in shown.split("```")[1].splitlines()[1:] if line] == told


@pytest.mark.parametrize("flag", ["--gpus 2", "--micro-batch 8", "--precision fp32", "--checkpointing"])
def test_flags_of_a_machine_without_plan_are_refused(capsys, tmp_path, flag):
    """They change nothing in a run, so a run that is given them is not what its user thinks."""
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", str(CONFIGS / "stage1.toml"), "--out", str(tmp_path / "run"), *flag.split()])
    error = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 1 and "only describe it for --plan" in error
    assert not (tmp_path / "run").exists()
