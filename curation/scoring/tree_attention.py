"""Attention over rows of one prompt with several responses behind it, registered with ``transformers``.

Prompt and first response are plain causal attention, without a mask. Only the further responses need one, and only
their own queries are computed under it, so most of what a mask over the whole row would hide is never computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from curation.scoring.packing import Further
from schemas.errors import EngineError

NAME = "winnow_scoring_tree"
"""Value of a model's ``attn_implementation``."""


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
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
        key, value: Shape (B, key heads, L, D), with a divisor of heads.
        attention_mask: not used; the two next say who sees whom.
        num_first: where the longest prompt with its first response ends; handed to the model's ``forward``.
        further: the responses after each row's first, or None without any; handed on likewise.
        scaling: factor on the scores; ``1 / sqrt(D)`` when None.
        softcap, s_aux: what some models add to attention; they cannot be computed here.

    Returns:
        Shape (B, L, heads, D), and None.

    Raises:
        EngineError: the model does not hand the rows' shape on, or its attention is of another kind.
    """
    if num_first is None or softcap is not None or s_aux is not None:
        raise EngineError("this model's attention is not a plain softmax over all tokens", mend="--engine vllm")
    has_groups = query.shape[1] != key.shape[1]
    # zero behind a row's end, for even a key that nobody sees must be a number
    out = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
    q, k, v = (t[:, :, :num_first] for t in (query, key, value))
    plain = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=has_groups)
    out[:, :num_first] = plain.transpose(1, 2)
    if further is not None:
        queries = query.transpose(1, 2)[further.rows, further.places].transpose(1, 2)
        under_mask = scaled_dot_product_attention(
            queries, key, value, attn_mask=further.mask, scale=scaling, enable_gqa=has_groups
        )
        out[further.rows, further.places] = under_mask.transpose(1, 2)
    return out, None


AttentionInterface.register(NAME, tree_attention)
