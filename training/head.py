"""Log-probs of response tokens from hidden states: the LM head on response rows only, in chunks, both ways.

No tensor of [tokens, vocabulary] ever exists: a chunk's logits live for that chunk, and the backward pass computes
them again from the hidden states and the log-normalisers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_ELEMENTS = 1 << 21
"""Logits that exist at once."""


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to its logits after the head: ``softcap * tanh(scale * logits / softcap)``."""

    scale: float = 1.0
    softcap: float | None = None

    def forward_(self, logits: Tensor) -> Tensor:
        """Apply in place."""
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def backward_(self, grad: Tensor, transformed: Tensor | None) -> Tensor:
        """Turn the gradient of transformed logits into that of the head's, in place."""
        if self.softcap is not None:
            assert transformed is not None
            grad *= 1 - (transformed / self.softcap) ** 2
        if self.scale != 1.0:
            grad *= self.scale
        return grad


class _ResponseLogps(torch.autograd.Function):
    """Token log-probs of selected rows, with a chunked forward and a chunked, recomputing backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        labels: Tensor,
        transform: LogitTransform,
        chunk: int,
    ) -> Tensor:
        picked = hidden.index_select(0, rows)
        logps = torch.empty(len(rows), dtype=torch.float32, device=hidden.device)
        norms = torch.empty_like(logps)
        for begin in range(0, len(rows), chunk):
            part = slice(begin, begin + chunk)
            logits = _logits(picked[part], weight, bias, transform)
            norms[part] = torch.logsumexp(logits, dim=-1)
            logps[part] = logits.gather(1, labels[part, None]).squeeze(1) - norms[part]
        ctx.save_for_backward(picked, weight, bias, rows, labels, norms)
        ctx.transform, ctx.chunk, ctx.num_rows = transform, chunk, len(hidden)
        return logps

    @staticmethod
    def backward(ctx: Any, grad_logps: Tensor) -> tuple[Tensor | None, ...]:
        picked, weight, bias, rows, labels, norms = ctx.saved_tensors
        needs_weight, needs_bias = ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2]
        grad_picked = torch.empty_like(picked)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias else None
        for begin in range(0, len(rows), ctx.chunk):
            part = slice(begin, begin + ctx.chunk)
            grad = _grad_logits(picked[part], weight, bias, labels[part], norms[part], grad_logps[part], ctx.transform)
            torch.mm(grad.to(weight.dtype), weight, out=grad_picked[part])
            if grad_weight is not None:
                _add_product(grad_weight, grad, picked[part])
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        grad_hidden = torch.zeros(ctx.num_rows, picked.shape[1], dtype=picked.dtype, device=picked.device)
        grad_hidden.index_add_(0, rows, grad_picked)
        cast = [None if g is None else g.to(weight.dtype) for g in (grad_weight, grad_bias)]
        return grad_hidden, cast[0], cast[1], None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, transform: LogitTransform) -> Tensor:
    return transform.forward_(nn.functional.linear(hidden, weight, bias).float())


def _grad_logits(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    norms: Tensor,
    grad_logps: Tensor,
    transform: LogitTransform,
) -> Tensor:
    """Gradient of the head's raw logits: ``g (1[label] - softmax)``, through the transform. Shape (rows, V)."""
    logits = _logits(hidden, weight, bias, transform)
    kept = logits.clone() if transform.softcap is not None else None
    grad = logits.sub_(norms[:, None]).exp_().mul_(-grad_logps[:, None])
    grad.scatter_add_(1, labels[:, None], grad_logps[:, None])
    return transform.backward_(grad, kept)


def _add_product(total: Tensor, grad: Tensor, hidden: Tensor) -> None:
    """``total += grad.T @ hidden`` in the accumulator's precision."""
    if hidden.dtype == total.dtype:
        torch.addmm(total, grad.t(), hidden, out=total)
    else:
        total += (grad.to(hidden.dtype).t() @ hidden).float()


def response_logps(
    hidden: Tensor,
    head: nn.Linear,
    rows: Tensor,
    labels: Tensor,
    *,
    transform: LogitTransform | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Log-prob of each label given the hidden state that predicts it.

    Args:
        hidden: last hidden states. Shape (T, H).
        head: the LM head, V outputs.
        rows: places in ``hidden``, repeats allowed. Shape (R,).
        labels: tokens. Shape (R,).
        transform: what the model does to its logits.
        chunk: rows whose logits exist at once; from :data:`CHUNK_ELEMENTS` when None.

    Returns:
        Nats, float32. Shape (R,).
    """
    size = chunk or max(CHUNK_ELEMENTS // head.weight.shape[0], 16)
    return _ResponseLogps.apply(hidden, head.weight, head.bias, rows, labels, transform or LogitTransform(), size)


@contextmanager
def response_head(head: nn.Linear, rows: Tensor, labels: Tensor, transform: LogitTransform) -> Iterator[None]:
    """Inside the block, the model's LM head returns token log-probs of the given rows instead of logits.

    So they are computed within the model's own forward pass, where a wrapper (DDP, FSDP) has its parameters ready.
    The head then gives Shape (1, R, 1).
    """

    def forward(hidden: Tensor) -> Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])
        return response_logps(flat, head, rows, labels, transform=transform)[None, :, None]

    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward
