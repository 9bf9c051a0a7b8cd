# mypy: disable-error-code="no-untyped-def"
"""Triton kernels for the rows of logits that an LM head makes: one pass forward, one in place backward, for GPUs.

The products stay with the matmul library; what comes behind them needs no float32 copy of the logits here, which the
same steps in plain torch (``training/head.py``) need several of.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096

# The kernels' arguments bear no annotations: Triton's compiler takes an annotation for a global that it may not see.


@triton.jit
def _transformed(raw, scale, softcap, has_cap: tl.constexpr):
    logits = raw.to(tl.float32) * scale
    if has_cap:  # tanh(u) = 2 sigmoid(2u) - 1
        logits = softcap * (2.0 * tl.sigmoid(2.0 * logits / softcap) - 1.0)
    return logits


@triton.jit
def _forward_kernel(
    logits,
    labels,
    norms,
    logps,
    num_columns,
    stride,
    scale,
    softcap,
    has_cap: tl.constexpr,
    block: tl.constexpr,
):
    """One row a program: its log-normaliser, kept with a running maximum, and the log-prob of its label."""
    row = tl.program_id(0).to(tl.int64)
    begin_of_row = logits + row * stride
    highest = -float("inf")
    total = 0.0
    for begin in range(0, num_columns, block):
        columns = begin + tl.arange(0, block)
        inside = columns < num_columns
        values = _transformed(tl.load(begin_of_row + columns, mask=inside, other=0.0), scale, softcap, has_cap)
        values = tl.where(inside, values, -float("inf"))
        higher = tl.maximum(highest, tl.max(values, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(values - higher), 0)
        highest = higher
    norm = highest + tl.log(total)
    label = tl.load(labels + row)
    of_label = _transformed(tl.load(begin_of_row + label), scale, softcap, has_cap)
    tl.store(norms + row, norm)
    tl.store(logps + row, of_label - norm)


@triton.jit
def _backward_kernel(
    logits,
    labels,
    norms,
    upstream,
    num_columns,
    stride,
    scale,
    softcap,
    has_cap: tl.constexpr,
    block: tl.constexpr,
):
    """One block of a row a program: logits become ``g (1[label] - softmax)``, through scale and cap."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < num_columns
    places = logits + row * stride + columns
    values = _transformed(tl.load(places, mask=inside, other=0.0), scale, softcap, has_cap)
    is_label = (columns == tl.load(labels + row)).to(tl.float32)
    grad = tl.load(upstream + row) * (is_label - tl.exp(values - tl.load(norms + row))) * scale
    if has_cap:
        grad = grad * (1.0 - (values / softcap) * (values / softcap))
    tl.store(places, grad.to(logits.dtype.element_ty), mask=inside)


def rows_forward(logits: Tensor, labels: Tensor, *, scale: float, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Log-normalisers and log-probs of the labels.

    Args:
        logits: of the head, untransformed, any float type. Shape (rows, V), contiguous.
        labels: Shape (rows,).
        scale, softcap: see :class:`training.head.LogitTransform`.

    Returns:
        Nats, float32. Shape (rows,) each.
    """
    norms = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    logps = torch.empty_like(norms)
    cap = 1.0 if softcap is None else softcap
    block = min(_BLOCK, triton.next_power_of_2(logits.shape[1]))
    _forward_kernel[(len(logits),)](
        logits, labels, norms, logps, logits.shape[1], logits.stride(0), scale, cap, softcap is not None, block
    )
    return norms, logps


def rows_backward_(
    logits: Tensor, norms: Tensor, labels: Tensor, upstream: Tensor, *, scale: float, softcap: float | None
) -> Tensor:
    """Turn the head's logits into their own gradient, in place. Shape (rows, V)."""
    cap = 1.0 if softcap is None else softcap
    block = min(_BLOCK, triton.next_power_of_2(logits.shape[1]))
    grid = (len(logits), triton.cdiv(logits.shape[1], block))
    _backward_kernel[grid](
        logits, labels, norms, upstream, logits.shape[1], logits.stride(0), scale, cap, softcap is not None, block
    )
    return logits
