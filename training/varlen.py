"""FlashAttention over a packed row of trees, for NVIDIA GPUs in half precision: one call without a mask.

Nothing that is hidden is computed, and a call costs the CPU little: what surrounds a compiled FlexAttention takes it
longer than the rest of a layer. A compiled decoder layer takes it in as one of its operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.layout import Layout


def can_run(query: Tensor, value: Tensor) -> bool:
    """Whether the kernels take these heads: bfloat16 or float16 of one size up to 256, on an NVIDIA GPU since Ampere.

    Args:
        query: Shape (1, heads, T, D).
        value: Shape (1, key heads, T, E).
    """
    is_half = query.dtype in (torch.bfloat16, torch.float16)
    size = query.shape[-1]
    return is_half and size == value.shape[-1] and size % 8 == 0 and size <= 256 and has_kernels(query.device)


@torch.compiler.assume_constant_result
def has_kernels(device: torch.device) -> bool:
    """Whether this device is an NVIDIA GPU for which torch brings FlashAttention."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device) >= (8, 0)


def varlen_tree_attention(
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
    from torch.nn.attention.varlen import varlen_attn

    row = layout.sequences
    out: Any = varlen_attn(
        query[0].transpose(0, 1),
        key[0].index_select(1, row.key_places).transpose(0, 1),
        value[0].index_select(1, row.key_places).transpose(0, 1),
        row.query_ends,
        row.key_ends,
        row.most_queries,
        row.most_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[None]
