"""Which attention a model can be trained with, found by asking the model itself in a forward pass of four tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from training import attention
from training.packing import Batching

_PROBE = "winnow_probe"
_NUM_TOKENS, _WINDOW = 4, 2
_LAYER_KINDS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class AttentionChoice:
    """How a model's attention is computed.

    Attributes:
        batching: as asked for, or ``padded``.
        implementation: value for ``attn_implementation``.
        reason: why the batching is not the one asked for; None where it is.
    """

    batching: Batching
    implementation: str
    reason: str | None = None


def choose_attention(model: Any, batching: Batching) -> AttentionChoice:
    """The batching asked for, where the model's attention can be replaced by ours; else padded rectangles.

    Padded rectangles go through SDPA, or through the model's own code where its attention has a term that SDPA drops.

    Args:
        model: a causal language model of ``transformers``, without adapter; left as it was.
        batching: as asked for.
    """
    plain = "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
    if not getattr(model, "_supports_attention_backend", False):
        return _padded(batching, plain, "its attention cannot be replaced")
    others = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - _LAYER_KINDS
    if others:
        return _padded(batching, plain, f"it has layers of {', '.join(sorted(others))}")
    seen = _probe(model)
    if seen.terms:
        return _padded(
            batching, "eager", f"its attention has terms that packing lacks: {', '.join(sorted(seen.terms))}"
        )
    if seen.has_other_values:
        return _padded(batching, plain, "its values are of another size than its queries")
    if seen.num_calls == 0 or seen.has_hidden_window:
        return _padded(batching, plain, "its attention is restricted by a mask alone")
    if seen.has_learned_mask:
        return _padded(batching, plain, "its attention has a mask that is learned")
    if not seen.is_told:
        return _padded(batching, plain, "its layers do not tell their attention who sees whom")
    if seen.is_mixed:
        return _padded(batching, plain, "its tokens meet elsewhere than in attention")
    return AttentionChoice(batching, plain if batching == "padded" else attention.NAME)


def _padded(asked: Batching, implementation: str, reason: str) -> AttentionChoice:
    return AttentionChoice("padded", implementation, None if asked == "padded" else reason)


@dataclass
class _Seen:
    """What the layers asked of their attention."""

    terms: set[str] = field(default_factory=set)
    num_calls: int = 0
    has_hidden_window: bool = False
    has_other_values: bool = False
    has_learned_mask: bool = False
    is_told: bool = True
    is_mixed: bool = False

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        layout: object = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        self.num_calls += 1
        self.is_told &= layout is not None
        self.has_other_values |= query.shape[-1] != value.shape[-1]
        self.terms |= attention.foreign_terms(options)
        self.has_learned_mask |= attention_mask is not None and attention_mask.requires_grad
        sees_first = attention_mask is None or bool(attention_mask[0, 0, -1, -_NUM_TOKENS] >= 0)
        self.has_hidden_window |= sees_first != (sliding_window is None)
        groups = query.shape[1] // value.shape[1]
        return value.repeat_interleave(groups, dim=1).transpose(1, 2).contiguous(), None


def _probe(model: Any) -> _Seen:
    """Run four tokens through the model with its window narrowed to two, and look at what each layer asks for.

    Every token then sees itself alone, so what the last one's logits owe to the others came some other way: through a
    recurrence or a convolution, for which a packed row is one sequence.
    """
    seen, before, was_training = _Seen(), model.config._attn_implementation, model.training
    AttentionInterface.register(_PROBE, seen)
    AttentionMaskInterface.register(_PROBE, eager_mask)
    embeddings = model.get_input_embeddings()
    embedded: list[Tensor] = []
    ids = torch.arange(_NUM_TOKENS, device=embeddings.weight.device)[None]  # the embedding of a pad token may be 0
    hook = embeddings.register_forward_hook(lambda _, given, out: embedded.append(out.requires_grad_()))
    try:
        model.set_attn_implementation(_PROBE)
        with torch.enable_grad(), _narrow_window(model.config.get_text_config()):
            logits = model.eval()(input_ids=ids, use_cache=False, layout=seen).logits
            (owed,) = torch.autograd.grad(logits[0, -1].sum(), embedded[0])
        seen.is_mixed = bool(owed[0, :-1].nan_to_num().any())  # spoilt weights stop the run later
    finally:
        hook.remove()
        model.train(was_training)
        model.set_attn_implementation(before)
    return seen


@contextmanager
def _narrow_window(config: Any) -> Iterator[None]:
    """Let the masks be those of a window of two tokens, where there is one."""
    window = getattr(config, "sliding_window", None)
    if window is None:
        yield
        return
    config.sliding_window = _WINDOW
    try:
        yield
    finally:
        config.sliding_window = window
