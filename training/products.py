"""Products of float32 matrices on a CPU, by the library that uses all of its vectors.

torch hands them to MKL, which takes its kernels for AVX-512 on Intel's own processors alone. On another maker's, the
same product by oneDNN, which torch has too, takes half of the time (training/NOTES.md). But oneDNN compiles a kernel
for every shape and keeps a thousand of them, at some 0.6 MB each. So what calls it again and again with other numbers
of rows adds rows that nobody reads, up to the next of few numbers: :func:`filler`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from schemas.processor import INTEL, processor_maker

LEAST_WORK = 1 << 21
"""Multiplications of a product that oneDNN gets at least: below, its call takes longer than what it saves."""


@torch.compiler.assume_constant_result
def is_mkl_slow() -> bool:
    """Whether torch's own choice for products leaves half of this processor's vectors unused, and oneDNN does not."""
    is_wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return is_wide and has_both and processor_maker() not in (None, INTEL)


def product(a: Tensor, b: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """``a @ b``, and ``bias`` added to every row.

    Args:
        a: Shape (M, K).
        b: Shape (K, N).
        bias: Shape (N,).

    Returns:
        Shape (M, N). Without a gradient: for what has one, see :func:`linear`.
    """
    if takes_onednn(a, a.shape[0] * b.numel()):
        return _by_onednn(a, b, bias)
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


@torch.library.custom_op("winnow::product", mutates_args=(), device_types="cpu")
def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """An operation of its own, as a compiler cannot look into oneDNN's."""
    # anything but a whole matrix on the right, as it lies or transposed, takes a thousand times as long
    whole = b if b.is_contiguous() or b.t().is_contiguous() else b.contiguous()
    bias = None if bias is None else bias.contiguous()  # it is read as if it were
    return torch.ops.mkldnn._linear_pointwise(a, whole.t(), bias, "none", [], "")


@_by_onednn.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def product_over_rows(a: Tensor, b: Tensor) -> Tensor:
    """``a.T @ b``. Shape (K, M), (K, N) -> (M, N), whole."""
    if a.shape[1] <= b.shape[1] or not takes_onednn(a, a.shape[0] * a.shape[1] * b.shape[1]):
        return product(a.t(), b)
    # oneDNN copies what lies the wrong way round on the left, so the smaller of the two goes there
    return product(b.t(), a).t().contiguous()


def filler(num_rows: int, like: Tensor) -> int:
    """How many rows to add so that products come in few shapes: those of four significant bits, an eighth more at most.

    Args:
        num_rows: as many as there are.
        like: one of the matrices; where it does not go to oneDNN, nothing is to be added.
    """
    step = 1 << max(num_rows.bit_length() - 4, 0)
    return -num_rows % step if _is_for_onednn(like) else 0


def takes_onednn(tensor: Tensor, work: int) -> bool:
    """Whether :func:`product` and :func:`linear` go to oneDNN, which has no room for a result given to it.

    Args:
        tensor: one of the two.
        work: multiplications of the product.
    """
    return _is_for_onednn(tensor) and work >= LEAST_WORK


def _is_for_onednn(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and is_mkl_slow()


class _Linear(torch.autograd.Function):
    """``input @ weight.T + bias`` for a matrix."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return product(inputs, weight.t(), bias=bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs = product(grad, weight) if ctx.needs_input_grad[0] else None
        of_weight = product_over_rows(grad, inputs) if ctx.needs_input_grad[1] else None
        return of_inputs, of_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``.

    Args:
        inputs: Shape (..., K).
        weight: Shape (N, K).
        bias: Shape (N,).

    Returns:
        Shape (..., N).
    """
    if not takes_onednn(inputs, inputs.numel() * weight.shape[0]):
        return nn.functional.linear(inputs, weight, bias)
    flat = inputs.reshape(-1, inputs.shape[-1])
    return _Linear.apply(flat, weight, bias).view(*inputs.shape[:-1], weight.shape[0])


class FastLinear(nn.Linear):
    """A linear layer that computes by :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape (..., K) to (..., N)."""
        return linear(input, self.weight, self.bias)


def use_fast_products(model: nn.Module) -> None:
    """Let a model's plain linear layers be :class:`FastLinear` ones, in place, where that makes a difference."""
    if not is_mkl_slow():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.float32:
            module.__class__ = FastLinear
