"""Log-probs of response tokens from hidden states: the LM head on response rows only, in chunks, both ways.

No tensor grows with tokens times vocabulary: a chunk's logits live for that chunk. The backward pass needs them again.
Those of the first rows, up to a fixed number of bytes, are kept from the forward pass, which is all of them where few
rows meet a small vocabulary; the others are computed again from hidden states and log-normalisers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.products import filler, product, product_over_rows, takes_onednn

CHUNK_ELEMENTS, CHUNK_ELEMENTS_GPU = 1 << 21, 1 << 27
"""Logits that exist at once while they are computed: what a cache holds, and what keeps a GPU busy (256 MiB)."""

LEAST_CHUNK = 128
"""Rows of a chunk at least: with fewer, adding to the weight's gradient takes longer than the products."""

KEPT_ELEMENTS = 1 << 24
"""Log-probs that wait for the backward pass at most: 64 MiB."""


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to its logits after the head: ``softcap * tanh(scale * logits / softcap)``."""

    scale: float = 1.0
    softcap: float | None = None

    def as_arguments(self) -> dict[str, Any]:
        """For the kernels."""
        return {"scale": self.scale, "softcap": self.softcap}

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
    """Token log-probs of selected rows, with a chunked forward and a chunked backward pass.

    Behind the products, the work on a row is done by Triton kernels where ``fused``, else by plain torch.
    """

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
        num_kept: int,
        fused: bool,
    ) -> Tensor:
        picked = hidden.index_select(0, rows)
        norms = torch.empty(len(rows), dtype=torch.float32, device=hidden.device)
        logps = torch.empty_like(norms)
        kept = _take(num_kept, weight)
        scratch = _rows_for(chunk if num_kept < len(rows) and not fused else 0, weight)
        for begin, end in _chunks(num_kept, len(rows), chunk):
            part = slice(begin, end)
            if fused:
                raw = nn.functional.linear(picked[part], weight, bias)
                norms[part], logps[part] = _kernels().rows_forward(raw, labels[part], **transform.as_arguments())
            elif end <= num_kept:
                logits = _logits(kept[part], picked[part], weight, bias, transform)
                torch.log_softmax(logits, -1, out=kept[part])
                logps[part] = kept[part].gather(1, labels[part, None]).squeeze(1)
            else:
                logits = _logits(scratch[: end - begin], picked[part], weight, bias, transform)
                norms[part] = torch.logsumexp(logits, dim=-1)
                logps[part] = logits.gather(1, labels[part, None]).squeeze(1) - norms[part]
        ctx.save_for_backward(picked, weight, bias, rows, labels, norms)
        ctx.transform, ctx.chunk, ctx.fused, ctx.num_rows, ctx.kept = transform, chunk, fused, len(hidden), kept
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_logps: Tensor) -> tuple[Tensor | None, ...]:
        picked, weight, bias, rows, labels, norms = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            raise RuntimeError("the log-probs of a head were used up by an earlier backward pass")
        grad_picked = torch.empty_like(picked)
        chunks = list(_chunks(len(kept), len(rows), ctx.chunk))
        of_sum = torch.float32 if len(chunks) > 1 else weight.dtype
        grad_weight = torch.zeros_like(weight, dtype=of_sum) if ctx.needs_input_grad[1] else None
        has_bias = bias is not None and ctx.needs_input_grad[2]
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if has_bias else None
        scratch = _rows_for(ctx.chunk if len(kept) < len(rows) and not ctx.fused else 0, weight)
        for begin, end in chunks:
            part, upstream = slice(begin, end), grad_logps[begin:end]
            if ctx.fused:
                raw = nn.functional.linear(picked[part], weight, bias)
                arguments = ctx.transform.as_arguments()
                grad = _kernels().rows_backward_(raw, norms[part], labels[part], upstream, **arguments)
            elif end <= len(kept):
                grad = _grad_of_logits(kept[part], None, labels[part], upstream, ctx.transform)
            else:
                logits = _logits(scratch[: end - begin], picked[part], weight, bias, ctx.transform)
                grad = _grad_of_logits(logits, norms[part], labels[part], upstream, ctx.transform)
            _product_into(grad_picked[part], grad.to(weight.dtype), weight)
            if grad_weight is not None and end > len(kept):
                _add_product(grad_weight, grad, picked[part])
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        if grad_weight is not None and len(kept):
            _add_product(grad_weight, kept, picked[: len(kept)])
        _give_back(kept)
        grad_hidden = torch.zeros(ctx.num_rows, picked.shape[1], dtype=picked.dtype, device=picked.device)
        grad_hidden.index_add_(0, rows, grad_picked)
        cast = [None if g is None else g.to(weight.dtype) for g in (grad_weight, grad_bias)]
        return grad_hidden, cast[0], cast[1], None, None, None, None, None, None


def _chunks(num_kept: int, num_rows: int, chunk: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of every chunk, of the rows that are kept and then of the others."""
    for first, last in ((0, num_kept), (num_kept, num_rows)):
        for begin in range(first, last, chunk):
            yield begin, min(begin + chunk, last)


_spare: list[Tensor] = []
"""Memory of the last backward pass on a CPU, where fresh memory costs as much time as a softmax over it."""


def _rows_for(num_rows: int, weight: Tensor) -> Tensor:
    return torch.empty(num_rows, weight.shape[0], dtype=torch.float32, device=weight.device)


def _take(num_rows: int, weight: Tensor) -> Tensor:
    """Memory for kept rows, that of an earlier pass where it is large enough. Shape (num_rows, V)."""
    size = num_rows * weight.shape[0]
    if weight.device.type == "cpu" and _spare and _spare[-1].numel() >= size:
        return _spare.pop()[:size].view(num_rows, weight.shape[0])
    return _rows_for(num_rows, weight)


def _give_back(kept: Tensor) -> None:
    if kept.device.type == "cpu":
        whole = torch.empty(0, dtype=kept.dtype).set_(kept.untyped_storage())
        _spare[:] = [max([whole, *_spare], key=Tensor.numel)]


def _logits(room: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, transform: LogitTransform) -> Tensor:
    """Transformed logits, float32, in ``room`` or in memory of their own. Shape (rows, V)."""
    if weight.dtype != room.dtype:
        logits = room.copy_(nn.functional.linear(hidden, weight, bias))
    elif takes_onednn(hidden, len(hidden) * weight.numel()):
        logits = product(hidden, weight.t(), bias=bias)
    elif bias is None:
        logits = torch.mm(hidden, weight.t(), out=room)
    else:
        logits = torch.addmm(bias, hidden, weight.t(), out=room)
    return transform.forward_(logits)


def _grad_of_logits(
    logits: Tensor, norms: Tensor | None, labels: Tensor, upstream: Tensor, transform: LogitTransform
) -> Tensor:
    """Gradient of the head's raw logits: ``g (1[label] - softmax)``, through the transform, in place. Shape (rows, V).

    Without ``norms``, ``logits`` are log-probs already.
    """
    before = logits.clone() if transform.softcap is not None else None
    if norms is not None:
        logits.sub_(norms[:, None])
    grad = logits.exp_().mul_(-upstream[:, None])
    grad.scatter_add_(1, labels[:, None], upstream[:, None])
    return transform.backward_(grad, before)


def _product_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """``out = a @ b``."""
    if takes_onednn(a, len(a) * b.numel()):
        out.copy_(product(a, b))
    else:
        torch.mm(a, b, out=out)


def _add_product(total: Tensor, grad: Tensor, hidden: Tensor) -> None:
    """``total += grad.T @ hidden`` in the accumulator's precision."""
    grad = grad.to(hidden.dtype)
    if takes_onednn(grad, len(grad) * total.numel()):
        total += product_over_rows(grad, hidden)
    elif hidden.dtype == total.dtype:
        torch.addmm(total, grad.t(), hidden, out=total)
    else:
        total += grad.t() @ hidden  # a GPU needs no float32 copy of the product


def response_logps(
    hidden: Tensor,
    head: nn.Linear,
    rows: Tensor,
    labels: Tensor,
    *,
    transform: LogitTransform | None = None,
    chunk: int | None = None,
    kept: int | None = None,
    fused: bool | None = None,
) -> Tensor:
    """Log-prob of each label given the hidden state that predicts it.

    Args:
        hidden: last hidden states. Shape (T, H).
        head: the LM head, V outputs.
        rows: places in ``hidden``, repeats allowed. Shape (R,).
        labels: tokens. Shape (R,).
        transform: what the model does to its logits.
        chunk: rows whose logits exist at once; by vocabulary, device and what their gradient takes when None.
        kept: rows whose log-probs wait for the backward pass; from :data:`KEPT_ELEMENTS` when None.
        fused: use the Triton kernels, which keep nothing; where they can run, when None.

    Returns:
        Nats, float32. Shape (R,).
    """
    transform = transform or LogitTransform()
    room = KEPT_ELEMENTS // head.weight.shape[0] if kept is None else kept
    fused = has_kernels(hidden.device) if fused is None else fused
    size = chunk or _chunk_rows(head.weight, len(rows), fused=fused)
    if fused or transform.softcap is not None or not torch.is_grad_enabled():
        room = 0  # the cap's own gradient needs the logits themselves
    more = rows.new_zeros(filler(len(rows), hidden))
    some = [torch.cat([given, more]) for given in (rows, labels)]
    logps = _ResponseLogps.apply(hidden, head.weight, head.bias, *some, transform, size, min(room, len(some[0])), fused)
    return logps[: len(rows)]


def _chunk_rows(weight: Tensor, num_rows: int, *, fused: bool) -> int:
    """Rows of a chunk: all, where their logits take no more than the float32 sum that the gradient of a weight in half
    precision needs over several chunks."""
    elements = CHUNK_ELEMENTS if weight.device.type == "cpu" else CHUNK_ELEMENTS_GPU
    size = max(elements // weight.shape[0], LEAST_CHUNK)
    needs_sum = fused and weight.requires_grad and weight.element_size() < 4
    return max(size, num_rows) if needs_sum and num_rows * weight.element_size() <= 4 * weight.shape[1] else size


def has_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels run there: an NVIDIA or AMD GPU, with Triton installed."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _kernels() -> Any:
    from training import fused_rows

    return fused_rows


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
