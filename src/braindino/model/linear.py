"""x W^T + b and its gradients, by the quickest exact way that the machine has."""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Whether torch was built with oneDNN and hands over a linear layer, on a CPU of the kind on which this was tried."""


def linear(
    x: Float[Tensor, "*batch dim"], weight: Float[Tensor, "out dim"], bias: Float[Tensor, " out"] | None = None
) -> Float[Tensor, "*batch out"]:
    """x W^T + b, in bfloat16 where the weight is.

    On a CPU, float32 goes to oneDNN instead of the BLAS of torch, forward and backward: where that BLAS is MKL and the
    CPU is one of AMD, it is about twice as fast, and it is equal to rounding. Under autocast and torch.compile, which
    choose for themselves, on a GPU and in other precisions it is torch's own.
    """
    if weight.dtype == torch.bfloat16:
        x = x.to(torch.bfloat16)
    ours = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    if not ONEDNN or not ours or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    product: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class Linear(nn.Linear):
    """torch's, computed by `linear`."""

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch out"]:
        """x W^T + b."""
        return linear(x, self.weight, self.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class _Linear(torch.autograd.Function):
    """y = x W^T + b; dL/dx = g W, dL/dW = g^T x and dL/db = sum g over all but the last axis, with g = dL/dy."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        of_x, of_weight, of_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        g, rows = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        return (
            _product(g, weight.t()).view(x.shape) if of_x else None,
            _product(g.t(), rows.t()) if of_weight else None,
            g.sum(0) if of_bias else None,
        )
