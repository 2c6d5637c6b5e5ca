"""The four losses against known numbers, against loops in numpy, and in their limits."""

import math

import numpy as np
import pytest
import torch

from braindino.pretraining.losses import (
    crop_weights,
    dino_loss,
    gram_loss,
    ibot_loss,
    koleo_loss,
    patch_weights,
    resize_patches,
    sigreg_loss,
)
from braindino.pretraining.targets import sinkhorn_knopp
from golden import close, fill

TARGETS = sinkhorn_knopp(0.6 * fill(3000, (6, 8)), 0.07)
GLOBAL, LOCAL = fill(3001, (2, 3, 8)), fill(3002, (4, 3, 8))
X = 2 * fill(4000, (6, 5))
A, B = 2 * fill(5000, (2, 4, 6)), 2 * fill(5001, (2, 4, 6))


def test_dino_loss_matches_the_reference():
    targets = TARGETS.view(2, 3, 8)
    close(dino_loss(GLOBAL, targets, ignore_diagonal=True), 5.7109528)
    close(dino_loss(GLOBAL, targets), 4.9709215)
    close(dino_loss(LOCAL, targets), 4.1100712)


def test_dino_loss_is_a_mean_over_pairs_and_samples():
    targets = TARGETS.view(2, 3, 8)
    values = [
        torch.nn.functional.cross_entropy(student / 0.1, target).item() for student in LOCAL for target in targets
    ]
    assert dino_loss(LOCAL, targets).item() == pytest.approx(np.mean(values), rel=1e-5)


def test_dino_loss_of_a_uniform_student_is_log_k():
    assert dino_loss(torch.zeros(2, 3, 8), TARGETS.view(2, 3, 8)).item() == pytest.approx(math.log(8), rel=1e-5)


@pytest.mark.parametrize(("students", "teachers"), [(4, 2), (1, 1)])
def test_ignore_diagonal_needs_the_same_crops(students, teachers):
    with pytest.raises(ValueError, match="same two or more crops"):
        dino_loss(LOCAL[:students], TARGETS.view(2, 3, 8)[:teachers], ignore_diagonal=True)


def test_crop_weights():
    assert crop_weights(2, 8) == pytest.approx((2 / 18, 16 / 18))
    assert crop_weights(2, 8, ignore_diagonal=False) == pytest.approx((4 / 20, 16 / 20))
    assert crop_weights(2, 0) == (1, 0)


def test_ibot_loss_matches_the_reference():
    mask = torch.zeros(4, 9, dtype=torch.bool)
    mask[0, [0, 4]] = mask[2, [1, 2, 3, 8]] = True
    assert mask.flatten().nonzero().flatten().tolist() == [0, 4, 19, 20, 21, 26]
    weights = patch_weights(mask)
    assert weights.tolist() == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    close(ibot_loss(fill(3003, (6, 8)), TARGETS, weights, 4), 2.698216)


def test_ibot_loss_without_masked_patches_is_zero():
    nothing = torch.zeros(0, 8, requires_grad=True)
    loss = ibot_loss(nothing, torch.zeros(0, 8), patch_weights(torch.zeros(4, 9, dtype=torch.bool)), 4)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(("neighbours", "expected"), [(1, -0.1289592), (2, -0.1909904), (3, -0.2392786)])
def test_koleo_loss_matches_the_reference_and_a_loop(neighbours, expected):
    close(koleo_loss(X, neighbours=neighbours), expected, 1e-6)
    unit = X.double().numpy() / np.linalg.norm(X.double().numpy(), axis=1, keepdims=True)
    distances = [np.sort([np.linalg.norm(a - b) for j, b in enumerate(unit) if j != i]) for i, a in enumerate(unit)]
    assert -np.log([row[:neighbours] for row in distances]).mean() == pytest.approx(expected, abs=1e-5)


def test_koleo_gradient_matches_the_reference():
    x = X.clone().requires_grad_()
    koleo_loss(x).backward()
    close(x.grad.norm(), 0.423121, 1e-6)
    close(x.grad[0], [0.115892, 0.000164, 0.043321, -0.074737, 0.132594], 1e-6)


def test_koleo_over_two_ranks():
    unit = torch.nn.functional.normalize(X, dim=-1)
    values = [koleo_loss(X[first : first + 3], gather=lambda own, first=first: (unit, first)) for first in (0, 3)]
    close(torch.stack(values), [-0.0132157, -0.2447027], 1e-6)


def test_koleo_of_duplicates_is_large_but_finite():
    x = X.clone()
    x[3] = x[0]
    x.requires_grad_()
    loss = koleo_loss(x)
    loss.backward()
    close(loss, 5.640977)
    assert x.grad.isfinite().all()


def test_koleo_without_neighbours_is_refused():
    """Else a lone sample is its own neighbour: the loss is -log(sqrt(5) 1e-8 + 1e-8) = 17.246323 whatever it is."""
    assert -math.log(math.sqrt(5) * 1e-8 + 1e-8) == pytest.approx(17.246323, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2 samples for 1 neighbours, got 1"):
        koleo_loss(X[:1])
    with pytest.raises(ValueError, match="at least 7 samples"):
        koleo_loss(X, neighbours=6)


GRAM = {
    ("image", "keep"): 0.3041948,
    ("batch", "keep"): 0.2659484,
    ("image", "clamp_both"): 0.0242247,
    ("image", "clamp_teacher"): 0.1535797,
}


@pytest.mark.parametrize(("level", "negatives"), GRAM)
def test_gram_loss_matches_the_reference(level, negatives):
    close(gram_loss(A, B, level=level, negatives=negatives), GRAM[level, negatives], 1e-6)


def test_gram_loss_of_features_with_their_lengths_matches_the_reference():
    close(gram_loss(A, B, unit_length=False), 1.869252, 2e-6)
    x = A.double().numpy(), B.double().numpy()
    differences = [x[0][n] @ x[0][n].T - x[1][n] @ x[1][n].T for n in range(2)]
    assert np.square(differences).mean() == pytest.approx(1.869252, abs=2e-6)
    assert gram_loss(A, 2 * A, unit_length=False) > 0.1


def test_gram_loss_of_some_patches():
    mask = torch.tensor([[True, False, True, True], [False, False, True, True]])
    unit = [torch.nn.functional.normalize(x[mask], dim=1).double().numpy() for x in (A, B)]
    expected = np.square(unit[0] @ unit[0].T - unit[1] @ unit[1].T).mean()
    assert gram_loss(A[mask][None], B[mask][None]).item() == pytest.approx(expected, rel=1e-5)
    everything = torch.ones(2, 4, dtype=torch.bool)
    close(gram_loss(A[everything][None], B[everything][None]), GRAM["batch", "keep"], 1e-6)


def test_gram_loss_ignores_lengths_and_common_rotations():
    turn, _ = torch.linalg.qr(fill(1, (6, 6)))
    torch.testing.assert_close(gram_loss(3 * A @ turn, B), gram_loss(A, B))
    assert gram_loss(A, 2 * A).item() == pytest.approx(0, abs=1e-12)


def test_resize_matches_the_reference():
    small = resize_patches(2 * fill(5002, (1, 64, 3)), (8, 8), (4, 4))
    close(small[0, 0], [0.150254, 0.058669, 0.110115], 1e-6)
    close(small[0, 5], [0.073215, 0.546013, 0.213889], 1e-6)
    maps = 2 * fill(5002, (1, 64, 3)).transpose(1, 2).reshape(1, 3, 8, 8)
    smooth = torch.nn.functional.interpolate(maps, size=(4, 4), mode="bicubic", antialias=True)
    close(smooth[0, :, 1, 1], [-0.182640, 0.436587, 0.180279], 1e-6)  # what it would be with antialiasing


def test_resize_keeps_rows_and_columns():
    row = torch.arange(4.0).repeat_interleave(6)
    column = torch.arange(6.0).repeat(4)
    small = resize_patches(torch.stack((row, column), -1)[None], (4, 6), (2, 3))
    assert small.shape == (1, 6, 2)
    close(small[0, :, 0].view(2, 3)[:, 1], [0.5, 2.5], 0.1)
    close(small[0, :, 1].view(2, 3)[1], [0.5, 2.5, 4.5], 0.1)
    with pytest.raises(ValueError, match="24 patches do not make a grid of 5 x 5"):
        resize_patches(torch.zeros(1, 24, 2), (5, 5), (2, 2))


def test_losses_stay_in_float32_under_autocast():
    plain = (dino_loss(GLOBAL, TARGETS.view(2, 3, 8)), koleo_loss(X), gram_loss(A, B))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (dino_loss(GLOBAL, TARGETS.view(2, 3, 8)), koleo_loss(X), gram_loss(A, B))
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


def test_losses_take_bfloat16_and_answer_in_float32():
    for loss in (
        dino_loss(GLOBAL.bfloat16(), TARGETS.view(2, 3, 8)),
        ibot_loss(fill(1, (6, 8)).bfloat16(), TARGETS, torch.ones(6), 6),
        koleo_loss(X.bfloat16()),
        gram_loss(A.bfloat16(), B.bfloat16()),
    ):
        assert loss.dtype == torch.float32 and loss.isfinite()


def seeded():
    return torch.Generator().manual_seed(0)


def test_sigreg_of_a_point_by_hand():
    """phi(t) = 1: the integral of (1 - g)^2 g with g = exp(-t^2 / 2) is sqrt(2 pi) (1 - sqrt(2) + 1 / sqrt(3))."""
    exact = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert float(sigreg_loss(torch.zeros(5, 8), seeded())) == pytest.approx(exact, rel=1e-4)


def test_sigreg_is_small_for_standard_normal_tokens_alone():
    x = torch.randn(20000, 8, generator=torch.Generator().manual_seed(1))
    loss = {name: float(sigreg_loss(tokens, seeded(), directions=64)) for name, tokens in {
        "normal": x, "narrow": 0.3 * x, "wide": 3 * x, "moved": x + 1, "two points": x.sign()[:, :1].expand(-1, 8),
    }.items()}  # fmt: skip
    assert loss["normal"] < 1e-3
    assert all(value > 0.02 for name, value in loss.items() if name != "normal")


def test_sigreg_over_ranks_is_that_of_all_samples():
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(2))
    means = []
    for half in x.split(6):
        sigreg_loss(half, seeded(), all_reduce=lambda own: (means.append(own), own)[1])
    both = [float(sigreg_loss(half, seeded(), all_reduce=lambda _: sum(means) / 2)) for half in x.split(6)]
    assert both == pytest.approx([float(sigreg_loss(x, seeded()))] * 2, rel=1e-5)
    assert float(sigreg_loss(x[:6], seeded())) != pytest.approx(both[0], rel=0.05)


def test_sigreg_spreads_collapsed_tokens():
    x = (0.1 * torch.randn(256, 4, generator=torch.Generator().manual_seed(3))).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.05)
    for step in range(100):
        optimiser.zero_grad()
        sigreg_loss(x, torch.Generator().manual_seed(step), directions=16).backward()
        optimiser.step()
    assert x.std(dim=0).detach().numpy() == pytest.approx(np.ones(4), abs=0.2)
