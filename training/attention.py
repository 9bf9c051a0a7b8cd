"""Attention over a packed row of trees, registered with ``transformers`` under :data:`NAME`.

On CPU each tree is computed as blocks without a mask: the prompt on itself, the responses on the prompt, each response
on itself. Sliding windows that are shorter than a tree, and other devices than CPU, go through a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from training.packing import Layout, Tree

NAME = "winnow_tree"
"""Value of a model's ``attn_implementation``."""


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one packed row, in the form that ``transformers`` asks for.

    Args:
        module: the attention layer; says how many query heads share a key head.
        query: Shape (1, heads, T, D).
        key, value: Shape (1, key heads, T, D).
        attention_mask: not used; ``layout`` says who sees whom.
        layout: trees of the row, handed to the model's ``forward``.
        scaling: factor on the scores; ``1 / sqrt(D)`` when None.
        dropout: probability of dropping a score.
        sliding_window: how many places back a token sees, itself included; None for all.

    Returns:
        Shape (1, T, heads, D), and None.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = [
        _tree(tree, query, key, value, layout, scaling=scaling, dropout=dropout, window=sliding_window)
        for tree in layout.trees
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _tree(
    tree: Tree,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    part = slice(tree.prompt[0], tree.end)
    mask = tree_mask(tree, layout, window)
    return scaled_dot_product_attention(
        query[:, :, part], key[:, :, part], value[:, :, part], attn_mask=mask, dropout_p=dropout, scale=scaling
    )


def tree_mask(tree: Tree, layout: Layout, window: int | None = None) -> Tensor:
    """Who sees whom inside one tree: earlier tokens of the prompt and of oneself. Shape (n, n), True where seen."""
    part = slice(tree.prompt[0], tree.end)
    segment, position = layout.segment_of[part], layout.position_ids[0, part]
    seen = (segment[None, :] == 0) | (segment[None, :] == segment[:, None])
    distance = position[:, None] - position[None, :]
    seen &= distance >= 0
    return seen if window is None else seen & (distance < window)


AttentionInterface.register(NAME, tree_attention)
