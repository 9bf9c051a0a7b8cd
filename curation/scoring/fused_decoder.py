"""A Llama-like decoder layer with one product for queries, keys and values, and loops between its products, on a CPU.

It stands in for layers that give the same, which each layer is asked on random input; a layer with norms of its heads,
another rotation, a scaled residual or a window is left as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from curation.scoring import cpu_kernels
from curation.scoring.fused_layers import FusedRMSNorm, joined
from curation.scoring.packing import Trees
from curation.scoring.tree_attention import attention_in_blocks

_ATTENTION = ("q_proj", "k_proj", "v_proj")
_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_TOLERANCE = 0.03  # of what a layer adds, root mean square
_SCORE_SIZE = 3.0  # standard deviation to which scores are brought, so that a query looks at some keys and not at all
_PROMPT, _RESPONSES = 6, (5, 4)


class FusedDecoderLayer(nn.Module):
    """``x + attention(norm(x))``, and the MLP of its norm behind it, over rows of trees; not for training."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.self_attn
        parts = [getattr(attention, name) for name in _ATTENTION]
        self.size = int(attention.head_dim)
        self.num_key_heads = parts[1].out_features // self.size
        self.scale = float(attention.scaling)
        self.input_layernorm: FusedRMSNorm = layer.input_layernorm
        self.heads = nn.Linear(
            parts[0].in_features, sum(p.out_features for p in parts), parts[0].bias is not None, device="meta"
        )
        self.heads.weight = joined(*(part.weight for part in parts))
        if parts[0].bias is not None:
            self.heads.bias = joined(*(part.bias for part in parts))
        self.o_proj = attention.o_proj
        self.post_attention_layernorm: FusedRMSNorm = layer.post_attention_layernorm
        self.mlp = layer.mlp

    def forward(
        self, hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], trees: Trees, **_: Any
    ) -> Tensor:
        """Shape (B, L, D) to the same; ``hidden_states`` is overwritten."""
        heads = self.heads(self.input_layernorm(hidden_states))
        query, key, value = self.turned(heads, position_embeddings)
        mixed = self.o_proj(attention_in_blocks(query, key, value, trees, self.scale).flatten(2))
        norm = self.post_attention_layernorm
        normal, total = cpu_kernels.add_rms_norm(mixed, hidden_states, norm.weight, norm.variance_epsilon)
        return total.add_(self.mlp(normal))

    def turned(self, heads: Tensor, position_embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, see :func:`cpu_kernels.rotated_heads`."""
        return cpu_kernels.rotated_heads(heads, *position_embeddings, num_key_heads=self.num_key_heads)


@torch.inference_mode()
def fuse_decoder(model: Any) -> None:
    """Replace the decoder layers of a model whose norms are fused, those that do what this one does.

    Args:
        model: of transformers, in bfloat16 on a CPU, that attends by :data:`tree_attention.NAME`.
    """
    layers, rotary = (getattr(model.base_model, name, None) for name in ("layers", "rotary_emb"))
    if not isinstance(layers, nn.ModuleList) or rotary is None:
        return
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    shifts = (0, max(longest - _PROMPT - sum(_RESPONSES), 0))  # some models scale queries at far places
    for number, layer in enumerate(layers):
        fused = FusedDecoderLayer(layer) if _has_parts(layer) else None
        if fused is not None and all(_is_same(layer, fused, rotary, shift) for shift in shifts):
            layers[number] = fused


def _has_parts(layer: Any) -> bool:
    if {name for name, _ in layer.named_children()} != _PARTS:
        return False
    attention = layer.self_attn
    parts = [getattr(attention, name, None) for name in _ATTENTION]
    if any(type(part) is not nn.Linear for part in parts) or not hasattr(attention, "o_proj"):
        return False
    size, scale = getattr(attention, "head_dim", None), getattr(attention, "scaling", None)
    are_norms = all(isinstance(getattr(layer, name), FusedRMSNorm) for name in _PARTS if name.endswith("norm"))
    has_biases = {part.bias is None for part in parts if part is not None}
    return are_norms and len(has_biases) == 1 and isinstance(size, int) and isinstance(scale, float)


def _is_same(layer: Any, fused: FusedDecoderLayer, rotary: Any, shift: int) -> bool:
    """Whether both give the same for two rows of random states at places from ``shift`` on, with some scores high."""
    weight = fused.input_layernorm.weight
    generator = torch.Generator().manual_seed(0)
    trees, places = _trees()
    places = places + shift
    x = (torch.randn(*places.shape, len(weight), generator=generator) * 1e-2).bfloat16()
    before = weight.clone()
    try:
        turns = rotary(x, places)
        if turns[0].shape[-1] != fused.size:
            return False
        weight.mul_((_SCORE_SIZE / _score_size(fused, x, turns).clamp_min(1e-6)).sqrt())
        expected = layer(x.clone(), attention_mask=None, position_ids=places, position_embeddings=turns, trees=trees)
        found = fused(x.clone(), position_embeddings=turns, trees=trees)
    except (TypeError, ValueError, RuntimeError):  # it takes other arguments, or its parts have other shapes
        return False
    finally:
        weight.copy_(before)
    if not isinstance(expected, Tensor) or expected.shape != found.shape:
        return False
    added = (expected.float() - x.float()).norm()
    return bool((found.float() - expected.float()).norm() <= _TOLERANCE * added)


def _score_size(fused: FusedDecoderLayer, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Standard deviation of attention scores."""
    query, key, _ = fused.turned(fused.heads(fused.input_layernorm(x)), turns)
    keys = key.float().repeat_interleave(query.shape[1] // key.shape[1], 1)
    return (query.float() @ keys.transpose(-1, -2) * fused.scale).std()


def _trees() -> tuple[Trees, Tensor]:
    """Two rows, a prompt with two responses and one with the first of them, and the place of each token."""
    first, second = _RESPONSES
    begin = torch.full((2, _PROMPT + first + second), -1)
    begin[:, :_PROMPT] = 0
    begin[:, _PROMPT : _PROMPT + first] = _PROMPT
    begin[0, _PROMPT + first :] = _PROMPT + first
    places = torch.tensor([*range(_PROMPT + first), *range(_PROMPT, _PROMPT + second)]).expand(2, -1)
    return Trees(torch.tensor([_PROMPT, _PROMPT]), begin), places
