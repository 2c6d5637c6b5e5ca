"""Teacher targets against known numbers, against Sinkhorn-Knopp written out in float64, and over two ranks."""

import itertools

import numpy as np
import pytest
import torch

from braindino.pretraining.targets import centred_softmax, sinkhorn_knopp, update_centre
from golden import close, fill

LOGITS = 0.6 * fill(3000, (6, 8))


def written_out(logits, temperature, iterations=3):
    """The algorithm as in the paper, with its constants K and N, in float64."""
    q = np.exp(logits.double().numpy() / temperature).T
    prototypes, samples = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(1, keepdims=True) * prototypes
        q /= q.sum(0, keepdims=True) * samples
    return torch.from_numpy((q * samples).T.astype(np.float32))


class PendingError(Exception):
    """A rank waits for the others."""


def on_ranks(function, parts):
    """`function(part, all_reduce)` for each rank, as if they ran together.

    The k-th reduction joins the k-th tensors of all ranks; all are run again until no reduction is pending.
    """
    joined: list[torch.Tensor] = []

    def run(part):
        numbers, given = itertools.count(), []

        def all_reduce(tensor, kind):
            number = next(numbers)
            if number == len(joined):
                given.append((tensor, kind))
                raise PendingError
            return joined[number]

        try:
            return function(part, all_reduce), None
        except PendingError:
            return None, given[0]

    while True:
        results = [run(part) for part in parts]
        pending = [asked for _, asked in results if asked is not None]
        if not pending:
            return [result for result, _ in results]
        assert len(pending) == len(parts) and len({kind for _, kind in pending}) == 1, "ranks must take the same path"
        stacked = torch.stack([tensor for tensor, _ in pending])
        joined.append(stacked.sum(0) if pending[0][1] == "sum" else stacked.amax(0))


def test_sinkhorn_matches_the_reference():
    once = [0.738350, 0.203265, 0.016032, 0.002379, 0.028499, 0.003596, 0.004860, 0.003018]
    close(sinkhorn_knopp(LOGITS, 0.07, iterations=1)[0], once, 2e-6)
    q = sinkhorn_knopp(LOGITS, 0.07)
    close(q[0], [0.591335, 0.316025, 0.041857, 0.006200, 0.030885, 0.004238, 0.005622, 0.003838], 2e-6)
    close(q[5], [0.010762, 0.087445, 0.010897, 0.030645, 0.301746, 0.000509, 0.251063, 0.306933], 2e-6)
    close(q.sum(0), [0.810104, 0.793874, 0.687785, 0.687518, 0.752497, 0.745656, 0.753829, 0.768738], 2e-6)
    close(q.sum(1), [1.0] * 6, 1e-6)


def test_sinkhorn_matches_the_written_out_algorithm():
    logits = 2 * fill(1, (50, 20))
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.1), written_out(logits, 0.1), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("split", [3, 1, 0])
def test_sinkhorn_over_two_ranks_is_that_of_all_samples(split):
    parts = [LOGITS[:split], LOGITS[split:]]
    results = on_ranks(lambda part, reduce: sinkhorn_knopp(part, 0.07, all_reduce=reduce), parts)
    torch.testing.assert_close(torch.cat(results), sinkhorn_knopp(LOGITS, 0.07))


def test_sinkhorn_over_ranks_of_very_different_size_of_logits():
    logits = torch.cat((LOGITS[:3] * 1000 + 500, LOGITS[3:] - 500))
    results = on_ranks(lambda part, reduce: sinkhorn_knopp(part, 0.04, all_reduce=reduce), [logits[:3], logits[3:]])
    torch.testing.assert_close(torch.cat(results), sinkhorn_knopp(logits, 0.04), atol=1e-3, rtol=0)


def test_sinkhorn_ignores_a_common_constant_and_survives_large_logits():
    torch.testing.assert_close(sinkhorn_knopp(LOGITS + 3, 0.07), sinkhorn_knopp(LOGITS, 0.07), atol=1e-5, rtol=0)
    q = sinkhorn_knopp(LOGITS * 1000, 0.04)
    assert q.isfinite().all()
    close(q.sum(1), [1.0] * 6, 1e-5)


def test_sinkhorn_survives_a_prototype_far_below_all_others():
    """exp would underflow to a column of zeros, and 0 / 0; balanced, the prototype gets its share."""
    logits = LOGITS.clone()
    logits[:, 3] -= 50.0
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.07), sinkhorn_knopp(LOGITS, 0.07), atol=1e-4, rtol=0)


def test_sinkhorn_converges_to_equal_use_of_prototypes():
    q = sinkhorn_knopp(LOGITS, 0.07, iterations=200)
    close(q.sum(0), [0.75] * 8, 1e-4)


def test_sinkhorn_without_samples():
    assert sinkhorn_knopp(LOGITS[:0], 0.07).shape == (0, 8)


def test_centred_softmax_matches_the_reference():
    centre = torch.zeros(8)
    first = [0.704210, 0.225088, 0.009922, 0.000767, 0.052341, 0.002887, 0.000767, 0.004017]
    close(centred_softmax(LOGITS, centre, 0.07)[0], first, 2e-6)
    centre = update_centre(centre, LOGITS, momentum=0.9)
    second = [0.705690, 0.234070, 0.009915, 0.000833, 0.041732, 0.002853, 0.000800, 0.004107]
    close(centred_softmax(LOGITS, centre, 0.07)[0], second, 2e-6)


def test_centre_over_unequal_ranks_and_without_samples():
    centre = fill(9, (8,))
    results = on_ranks(lambda part, reduce: update_centre(centre, part, all_reduce=reduce), [LOGITS[:1], LOGITS[1:]])
    expected = 0.9 * centre + 0.1 * LOGITS.mean(0)
    for got in results:
        torch.testing.assert_close(got, expected)
    assert torch.equal(update_centre(centre, LOGITS[:0]), centre)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_batch_leaves_the_centre_as_it_was(bad):
    """Its step is skipped; a centre that is not finite would make every later one bad too."""
    centre, logits = fill(9, (8,)), LOGITS.clone()
    logits[2, 3] = bad
    assert torch.equal(update_centre(centre, logits), centre)
