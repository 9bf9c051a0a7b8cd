"""FlexAttention over a packed row of trees, for GPUs in float32: one compiled call under a block mask."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from training.layout import Layout

LEAST_HEAD = 16
"""Size of a head that its compiled kernels take at least."""

_masks: dict[tuple[int, int | None], tuple[Layout, BlockMask]] = {}


def flex_tree_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float, window: int | None
) -> Tensor:
    """Attention of one packed row.

    Args:
        query: Shape (1, heads, T, D).
        key, value: Shape (1, key heads, T, D).
        layout: trees of the row, on the same device.
        scale: factor on the scores.
        window: how many places back a token sees, itself included; None for all.

    Returns:
        Shape (1, T, heads, D).
    """
    mask = block_mask(layout, window)
    attend = _compiled() if query.device.type == "cuda" else flex_attention
    grouped = query.shape[1] != key.shape[1]
    out: Any = attend(query, key, value, block_mask=mask, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2)


def block_mask(layout: Layout, window: int | None = None) -> BlockMask:
    """The mask of a row, made once for all layers of a forward pass."""
    key = (id(layout), window)
    if key not in _masks:
        for old in [k for k, (kept, _) in _masks.items() if kept is not layout]:
            del _masks[old]
        _masks[key] = (layout, _make_mask(layout, window))
    return _masks[key][1]


def _make_mask(layout: Layout, window: int | None) -> BlockMask:
    tree, segment, position = layout.tree_of, layout.segment_of, layout.position_ids[0]

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = (tree[q] == tree[k]) & ((segment[k] == 0) | (segment[q] == segment[k])) & (position[q] >= position[k])
        return seen if window is None else seen & (position[q] - position[k] < window)

    length = layout.position_ids.shape[1]
    return create_block_mask(sees, None, None, length, length, device=str(layout.position_ids.device))


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)
