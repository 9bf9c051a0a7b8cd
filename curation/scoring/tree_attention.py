"""Attention over rows of one prompt with several responses behind it, registered with ``transformers``.

On a CPU that multiplies bfloat16, both products go to its matrix units block of queries by block, with a softmax
between them that knows who sees whom; torch's own kernel computes them in float32 there, at a fraction of the rate.
Elsewhere prompt and first response are plain causal attention, without a mask, and only the further responses' queries
are computed under one, so most of what a mask over the whole row would hide is never computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from curation.scoring import cpu_kernels
from curation.scoring.packing import Further, Trees
from schemas.errors import EngineError

NAME = "winnow_scoring_tree"
"""Value of a model's ``attn_implementation``."""

_SCORES_AT_ONCE = 1 << 22  # of a block of queries; in bfloat16 they stay in a CPU's cache
_LEAST_BLOCK = 64  # queries


def tree_order(trees: Trees, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a model's ``forward`` takes besides a batch's tokens, so that :func:`tree_attention` knows who sees whom."""
    if cpu_kernels.has_matrix_units(device, dtype):
        return {"trees": trees}
    further = trees.further()
    return {"num_first": trees.num_first, "further": None if further is None else further.to(device, dtype)}


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    trees: Trees | None = None,
    num_first: int | None = None,
    further: Further | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a batch of rows, in the form that ``transformers`` asks for.

    Args:
        module: the attention layer; not used.
        query: Shape (B, heads, L, D).
        key, value: Shape (B, key heads, L, D), with a divisor of heads; values may be of another size E.
        attention_mask: not used; the next three say who sees whom, and come from :func:`tree_order`.
        trees: the rows, where the products are ours.
        num_first: where the longest prompt with its first response ends.
        further: the responses after each row's first, or None without any.
        scaling: factor on the scores; ``1 / sqrt(D)`` when None.
        softcap, s_aux: what some models add to attention; they cannot be computed here.

    Returns:
        Shape (B, L, heads, E), and None.

    Raises:
        EngineError: the model does not hand the rows' shape on, or its attention is of another kind.
    """
    if (trees is None and num_first is None) or softcap is not None or s_aux is not None:
        raise EngineError("this model's attention is not a plain softmax over all tokens", mend="--engine vllm")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if trees is not None:
        return attention_in_blocks(query, key, value, trees, scale), None
    has_groups = query.shape[1] != key.shape[1]
    # zero behind a row's end, for even a key that nobody sees must be a number
    out = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    q, k, v = (t[:, :, :num_first] for t in (query, key, value))
    plain = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=has_groups)
    out[:, :num_first] = plain.transpose(1, 2)
    if further is not None:
        queries = query.transpose(1, 2)[further.rows, further.places].transpose(1, 2)
        under_mask = scaled_dot_product_attention(
            queries, key, value, attn_mask=further.mask, scale=scale, enable_gqa=has_groups
        )
        out[further.rows, further.places] = under_mask.transpose(1, 2)
    return out, None


def attention_in_blocks(query: Tensor, key: Tensor, value: Tensor, trees: Trees, scale: float) -> Tensor:
    """Blocks of queries against all keys before their end, the heads that share keys as one matrix.

    Args:
        query: bfloat16 on a CPU, shape (B, heads, L, D).
        key, value: shape (B, key heads, L, D).
        trees: the rows.
        scale: factor on the scores.

    Returns:
        Shape (B, L, heads, D).
    """
    batch, heads, length, size = query.shape
    num_key_heads = key.shape[1]
    keys = key.reshape(-1, length, size).transpose(1, 2)
    values = value.reshape(-1, length, value.shape[-1])
    out = query.new_empty(batch, length, heads, value.shape[-1])
    block = max(_SCORES_AT_ONCE // (batch * heads * length), _LEAST_BLOCK)
    for start in range(0, length, block):
        end = min(start + block, length)
        queries = query[:, :, start:end].reshape(len(values), -1, size)
        scores = torch.bmm(queries, keys[:, :, :end])
        cpu_kernels.tree_softmax_(
            scores,
            scale=scale,
            start=start,
            count=end - start,
            prompt_end=trees.prompt_end,
            begin=trees.begin,
            num_key_heads=num_key_heads,
        )
        mixed = torch.bmm(scores, values[:, :end])
        out[:, start:end] = mixed.view(batch, heads, end - start, -1).transpose(1, 2)
    return out


AttentionInterface.register(NAME, tree_attention)
