"""What the kernels behind ``torch.nn.attention.varlen`` give, for a CPU, where torch has none; in float32."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import varlen


def register() -> None:
    """Let ``varlen_attn`` run on a CPU, forward and backward, in this process."""
    varlen._varlen_attn.register_kernel("cpu")(_forward)
    varlen._varlen_attn_backward.register_kernel("cpu")(_backward)


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
    window_size: list[int] | None = None,
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    assert cu_seq_k is not None
    assert (max_q, max_k) == (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max()))
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    out, norms = torch.empty_like(query), query.new_empty(query.shape[1], len(query), dtype=torch.float32)
    for at, on, seen in _sequences(cu_seq_q, cu_seq_k, is_causal, window_size):
        scores = _scores(query[at], key[on], scale, seen)
        norms[:, at] = scores.logsumexp(-1)
        out[at] = (scores.softmax(-1) @ _heads(value[on], query)).transpose(0, 1).to(out.dtype)
    return out, norms, torch.zeros(2, dtype=torch.uint64)


def _backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool,
    rng_state: Tensor,
    scale: float | None = None,
    window_size: list[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    assert grad_out.stride(-1) == 1
    of_query, of_key, of_value = (torch.empty_like(each) for each in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    for at, on, seen in _sequences(cu_seq_q, cu_seq_k, is_causal, window_size):
        shares = (_scores(query[at], key[on], scale, seen) - lse[:, at, None]).exp()
        by_out = grad_out[at].transpose(0, 1).float()
        by_share = by_out @ _heads(value[on], query).transpose(1, 2)
        mean = (by_out * out[at].transpose(0, 1).float()).sum(-1, keepdim=True)
        by_score = shares * (by_share - mean) * factor
        of_query[at] = (by_score @ _heads(key[on], query)).transpose(0, 1).to(query.dtype)
        for grad, by_head in (
            (of_key, by_score.transpose(1, 2) @ query[at].transpose(0, 1).float()),
            (of_value, shares.transpose(1, 2) @ by_out),
        ):
            grad[on] = by_head.unflatten(0, (key.shape[1], -1)).sum(1).transpose(0, 1).to(grad.dtype)
    return of_query, of_key, of_value


def _sequences(
    query_ends: Tensor, key_ends: Tensor, is_causal: bool, window_size: list[int] | None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Queries and keys of each sequence, and who sees whom; the last query stands where the last key does."""
    left, right = window_size or (-1, -1)
    assert is_causal == ((left, right) == (-1, 0))
    for (begin, end), (first, last) in zip(pairwise(query_ends.tolist()), pairwise(key_ends.tolist()), strict=True):
        place = torch.arange(last - first - (end - begin), last - first)[:, None]
        other = torch.arange(last - first)[None]
        seen = torch.ones(end - begin, last - first, dtype=torch.bool)
        seen &= (other <= place + right) if right >= 0 else seen
        seen &= (other >= place - left) if left >= 0 else seen
        yield slice(begin, end), slice(first, last), seen


def _scores(query: Tensor, key: Tensor, scale: float | None, seen: Tensor) -> Tensor:
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query.transpose(0, 1).float() @ _heads(key, query).transpose(1, 2) * factor
    return scores.masked_fill(~seen, -torch.inf)


def _heads(keys: Tensor, query: Tensor) -> Any:
    """Keys or values of each query head. Shape (heads, n, D)."""
    return keys.transpose(0, 1).float().repeat_interleave(query.shape[1] // keys.shape[1], 0)
