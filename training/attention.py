"""Attention over a packed row of trees, registered with ``transformers`` under :data:`NAME`.

On CPU a tree is computed as blocks without a mask, so nothing that is masked away is ever computed, and keys are used
where they lie. On a GPU one call covers the whole row: of FlashAttention in half precision, else of FlexAttention.
Where a sliding window cuts into a tree on a CPU, dropout is on, or heads are too small for the GPU's kernels, a mask
says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from schemas.errors import ModelError
from training import varlen
from training.flex import LEAST_HEAD, flex_tree_attention
from training.layout import Layout, Tree

NAME = "winnow_tree"
"""Value of a model's ``attn_implementation``."""

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


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
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of one packed row, in the form that ``transformers`` asks for.

    Args:
        module: the attention layer; not used.
        query: Shape (1, heads, T, D).
        key, value: Shape (1, key heads, T, D), with a divisor of heads.
        attention_mask: not used; ``layout`` says who sees whom.
        layout: trees of the row, handed to the model's ``forward``.
        scaling: factor on the scores; ``1 / sqrt(D)`` when None.
        dropout: probability of dropping a score.
        sliding_window: how many places back a token sees, itself included; None for all.
        options: what else the model hands to its attention, none of which may change the result.

    Returns:
        Shape (1, T, heads, D), and None.

    Raises:
        ModelError: the model's attention has a term that is not computed here.
    """
    if terms := foreign_terms(options):
        raise ModelError(
            f"the attention of {type(module).__name__} has terms that packing lacks: {', '.join(sorted(terms))}",
            mend="set train.batching = 'padded'",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = sliding_window if sliding_window is not None and sliding_window < layout.sequences.most_keys else None
    if dropout == 0 and varlen.can_run(query, value):
        return varlen.varlen_tree_attention(query, key, value, layout, scale=scale, window=window), None
    return _uncompiled(query, key, value, layout, scale=scale, dropout=dropout, window=window), None


@torch.compiler.disable  # blocks and masks differ from row to row; compiled layers break off here and go on behind it
def _uncompiled(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float, dropout: float, window: int | None
) -> Tensor:
    if query.device.type == "cuda" and dropout == 0 and query.shape[-1] >= LEAST_HEAD:
        return flex_tree_attention(query, key, value, layout, scale=scale, window=window)
    if query.device.type != "cpu" or window is not None or dropout > 0:
        return _masked(query, key, value, layout, scale=scale, dropout=dropout, window=window)
    out: Tensor = _Blocks.apply(query, key, value, layout.trees, scale)
    return out


_HARMLESS = frozenset(
    {
        "cache_position",
        "cu_seq_lens_k",
        "cu_seq_lens_q",
        "is_causal",
        "max_length_k",
        "max_length_q",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)
"""What models hand to their attention beside its arguments and what changes nothing here; every other is a term."""


def foreign_terms(options: Mapping[str, Any]) -> set[str]:
    """Arguments by which a model asks for something else than softmax attention: caps, sinks, biases."""
    return {name for name, value in options.items() if value is not None and name not in _HARMLESS}


class _Blocks(torch.autograd.Function):
    """The CPU path: a tree's prompt with its first response is one causal block; every further response is a block on
    the prompt and a causal one on itself.

    The two blocks of a response are joined by their log-normalisers, as in ring attention: given the joint output and
    log-normaliser, each block's backward pass is the kernel's own.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, trees: tuple[Tree, ...], scale: float) -> Tensor:
        out = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
        groups = query.shape[1] // key.shape[1]
        q, by_group = _grouped(query, groups), _grouped(out.transpose(1, 2), groups)
        k, v = _expanded(key, groups), _expanded(value, groups)
        norms = torch.empty(q.shape[:3], dtype=torch.float32)
        for tree in trees:
            first, further = _first_block(tree), _further(tree)
            by_group[:, :, first], norms[:, :, first] = _forward(
                q[:, :, first], k[:, :, first], v[:, :, first], 0.0, True, scale=scale
            )
            for span in further:
                on_self = _forward(q[:, :, span], k[:, :, span], v[:, :, span], 0.0, True, scale=scale)
                prompt = slice(*tree.prompt)
                on_prompt = _forward(q[:, :, span], k[:, :, prompt], v[:, :, prompt], 0.0, False, scale=scale)
                by_group[:, :, span], norms[:, :, span] = _join(on_self, on_prompt)
        ctx.save_for_backward(query, key, value, out, norms)
        ctx.trees, ctx.scale = trees, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, norms = ctx.saved_tensors
        groups = query.shape[1] // key.shape[1]
        q, o, g = (_grouped(t, groups) for t in (query, out.transpose(1, 2), grad_out.transpose(1, 2)))
        k, v = _expanded(key, groups), _expanded(value, groups)
        grad_query = torch.empty_like(query)
        of_query = _grouped(grad_query, groups)
        of_key, of_value = (t.new_empty(t.shape) for t in (k, v))

        def block(at: slice, on: slice, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
            inputs = (g[:, :, at], q[:, :, at], k[:, :, on], v[:, :, on], o[:, :, at], norms[:, :, at])
            return _backward(*inputs, 0.0, causal, scale=ctx.scale)

        for tree in ctx.trees:
            first, prompt = _first_block(tree), slice(*tree.prompt)
            of_query[:, :, first], of_key[:, :, first], of_value[:, :, first] = block(first, first, True)
            for span in _further(tree):
                of_query[:, :, span], of_key[:, :, span], of_value[:, :, span] = block(span, span, True)
                on_query, on_key, on_value = block(span, prompt, False)
                of_query[:, :, span] += on_query
                of_key[:, :, prompt] += on_key
                of_value[:, :, prompt] += on_value
        return grad_query, of_key.sum(0, keepdim=True), of_value.sum(0, keepdim=True), None, None


def _first_block(tree: Tree) -> slice:
    """The prompt and the response that lies right behind it."""
    return slice(tree.prompt[0], tree.responses[0][1])


def _further(tree: Tree) -> list[slice]:
    """The other responses, without those of which nothing is fed in."""
    return [slice(begin, end) for begin, end in tree.responses[1:] if begin < end]


def _grouped(heads: Tensor, groups: int) -> Tensor:
    """A view of (1, heads, T, D) as (groups, key heads, T, D): query heads of a key head lie in different groups."""
    return heads.unflatten(1, (-1, groups))[0].transpose(0, 1)


def _expanded(keys: Tensor, groups: int) -> Tensor:
    """A view of (1, key heads, T, D) as (groups, key heads, T, D), nothing copied."""
    return keys.expand(groups, -1, -1, -1)


def _join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Output and log-normaliser of the same queries over two disjoint sets of keys."""
    share = torch.sigmoid(second[1] - first[1])[..., None].to(first[0].dtype)
    return torch.lerp(first[0], second[0], share), torch.logaddexp(first[1], second[1])


def _masked(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float, dropout: float, window: int | None
) -> Tensor:
    """Every tree under its own mask: for what the other paths cannot do. Shape (1, T, heads, D)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = []
    for tree in layout.trees:
        q, k, v = (t[:, :, tree.prompt[0] : tree.end] for t in (query, key, value))
        mask = tree_mask(tree, layout, window)
        parts.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def tree_mask(tree: Tree, layout: Layout, window: int | None = None) -> Tensor:
    """Who sees whom inside one tree: earlier tokens of the prompt and of oneself. Shape (n, n), True where seen."""
    part = slice(tree.prompt[0], tree.end)
    segment, position = layout.segment_of[part], layout.position_ids[0, part]
    seen = (segment[None, :] == 0) | (segment[None, :] == segment[:, None])
    distance = position[:, None] - position[None, :]
    seen &= distance >= 0
    return seen if window is None else seen & (distance < window)


AttentionInterface.register(NAME, tree_attention)
