"""Each monitor by hand, at its limits, and the same however the batch is shared out."""

import math
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from braindino.model.vit import Output
from braindino.pretraining.monitors import Look, balance, effective_rank, health, look
from braindino.pretraining.networks import Network, Seen
from braindino.pretraining.ranks import Ranks
from braindino.pretraining.step import Targets
from braindino.stats import representation


def one_hot(*columns, width=4):
    return torch.eye(width)[list(columns)]


def test_balance_by_hand():
    uniform = balance([torch.full((6, 4), 0.25)], Ranks())
    assert [uniform[name] for name in ("target_entropy", "mean_target_entropy")] == pytest.approx([math.log(4)] * 2)
    spread = balance([one_hot(0, 1, 2, 3)], Ranks())
    assert spread["mean_target_entropy"] == pytest.approx(math.log(4)) and spread["target_entropy"] == 0
    assert spread["prototypes_used"] == 4
    collapsed = balance([one_hot(2, 2, 2, 2)], Ranks())
    assert collapsed == {"target_entropy": 0, "mean_target_entropy": 0, "prototypes_used": 1}
    assert balance([torch.zeros(0, 4)], Ranks()) == dict.fromkeys(collapsed, 0)


def test_effective_rank_is_that_of_the_statistics_room():
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 20), (20, 8)):
        x = torch.randn(shape, generator=generator)
        assert effective_rank(x) == pytest.approx(representation.effective_rank(x.double().numpy()), rel=1e-4)
    line = torch.arange(5.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert math.isnan(
        effective_rank(torch.tensor([[1.0, 2.0], [float("nan"), 3.0]]))
    )  # such a step is skipped, not fatal


def seen(patch, cls=None):
    cls = torch.zeros(len(patch), patch.shape[2]) if cls is None else cls
    empty = torch.zeros(0)
    return Seen([Output(cls, torch.zeros(len(patch), 0, patch.shape[2]), patch)], empty, empty, empty)


def test_patch_cosine_is_the_mean_off_diagonal_of_the_gram_matrix():
    patch = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))
    unit = torch.nn.functional.normalize(patch, dim=-1)
    gram = unit @ unit.mT
    expected = (gram.sum((1, 2)) - 6) / 30
    assert torch.allclose(look(seen(patch), 3).patch_cosine, expected[:3], atol=1e-6)
    alike = torch.ones(2, 6, 5)
    assert torch.allclose(look(seen(alike), 2).patch_cosine, torch.ones(2))
    assert torch.allclose(look(seen(torch.eye(6)[None]), 1).patch_cosine, torch.zeros(1), atol=1e-6)


@dataclass(frozen=True)
class Together(Ranks):
    """A rank in a thread, which speaks to the others through a list."""

    barrier: threading.Barrier | None = None
    desk: list = field(default_factory=list)

    def _exchange(self, tensor):
        self.desk[self.rank] = tensor
        self.barrier.wait()
        found = list(self.desk)
        self.barrier.wait()
        return found

    def all_reduce(self, tensor, operation):
        stacked = torch.stack(self._exchange(tensor))
        return stacked.sum(0) if operation == "sum" else stacked.amax(0)

    def gather(self, rows):
        return torch.cat(self._exchange(rows)), self.rank * len(rows)


def on_ranks(count, work):
    """What `work(ranks)` gives on each of some ranks."""
    barrier, desk, found = threading.Barrier(count), [None] * count, [None] * count

    def one(rank):
        found[rank] = work(Together(rank, count, barrier=barrier, desk=desk))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return found


@pytest.mark.parametrize(("ranks", "passes"), [(1, 2), (2, 1), (2, 2)])
def test_monitors_do_not_depend_on_how_the_batch_is_shared_out(small_run, ranks, passes, monkeypatch):
    monkeypatch.setattr("braindino.pretraining.monitors.RANK_SAMPLES", 5)
    monkeypatch.setattr("braindino.pretraining.monitors.ROWS", 3)
    generator = torch.Generator().manual_seed(2)
    student = Network(small_run, generator)
    cls, alike = torch.randn(8, 48, generator=generator), torch.rand(8, generator=generator)
    targets = torch.randn(16, 64, generator=generator).mul(3).softmax(1).unflatten(0, (2, 8))
    patch = torch.randn(13, 64, generator=generator).mul(3).softmax(1)  # hidden patches: not equally many in each part
    terms = {"global": 9.0}
    whole = health([Targets(targets.flatten(0, 1), patch)], [Look(cls, alike)], student, terms, Ranks())
    size = 8 // (ranks * passes)

    def work(group):
        parts = [range((a * ranks + group.rank) * size, (a * ranks + group.rank + 1) * size) for a in range(passes)]
        hidden = [slice(part.start, 13 if part.stop == 8 else part.stop) for part in parts]
        own = [Targets(targets[:, p].flatten(0, 1), patch[h]) for p, h in zip(parts, hidden, strict=True)]
        return health(own, [Look(cls[part], alike[part]) for part in parts], student, terms, group)

    for found in on_ranks(ranks, work):
        assert found == pytest.approx(whole, rel=1e-5)
    assert whole["kl"] == pytest.approx(9 - whole["target_entropy"])
    longest = torch.linalg.vector_norm(student.dino_head.last_layer.weight.detach(), dim=1).max()
    assert whole["prototype_norm"] == pytest.approx(float(longest))
    assert all(np.isfinite(list(whole.values())))
