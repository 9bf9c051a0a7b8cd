"""Log-probs of a pack's responses under a causal language model of ``transformers``, as it stands or wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import ModelError
from training import attention
from training.head import LogitTransform, response_head
from training.packing import Pack


@dataclass(frozen=True)
class PairLogps:
    """Log-probs of a pack's pairs, float64, in nats; every field has Shape (pairs,)."""

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_num_tokens: Tensor
    rejected_num_tokens: Tensor

    @property
    def policy_margin(self) -> Tensor:
        """Summed margin."""
        return self.chosen_logps - self.rejected_logps

    @property
    def chosen_logps_mean(self) -> Tensor:
        """Nats a token."""
        return self.chosen_logps / self.chosen_num_tokens

    @property
    def rejected_logps_mean(self) -> Tensor:
        """Nats a token."""
        return self.rejected_logps / self.rejected_num_tokens


def pair_logps(model: nn.Module, pack: Pack, *, unwrapped: nn.Module | None = None) -> PairLogps:
    """Forward pass of one pack.

    Args:
        model: a causal language model, or its DDP or FSDP wrapper.
        pack: on the model's device.
        unwrapped: the model inside the wrapper; ``model`` when None.
    """
    inner = model if unwrapped is None else unwrapped
    head = lm_head(inner)
    with _plain_logits(inner) as transform, response_head(head, pack.rows, pack.labels, transform):
        if pack.layout is None:
            out = model(input_ids=pack.input_ids, attention_mask=pack.attention_mask, use_cache=False)
        else:
            out = model(
                input_ids=pack.input_ids,
                position_ids=pack.layout.position_ids,
                layout=pack.layout,
                use_cache=False,
            )
    token_logps = out.logits[0, :, 0].double()
    summed = torch.segment_reduce(token_logps, "sum", lengths=pack.num_tokens, axis=0)
    num_tokens = pack.num_tokens.double()
    return PairLogps(summed[pack.chosen], summed[pack.rejected], num_tokens[pack.chosen], num_tokens[pack.rejected])


def lm_head(model: Any) -> nn.Linear:
    """The model's LM head.

    Raises:
        ModelError: it has none, or one that is not a plain linear layer.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the LM head of {type(model).__name__} is {type(head).__name__}, not a linear layer",
            mend="train a causal language model; leave the head out of lora.target_modules",
        )
    return head


def set_attention(model: Any, implementation: str) -> None:
    """Let a model use an attention implementation by name."""
    model.set_attn_implementation(implementation)


def compile_layers(model: Any) -> None:
    """Compile every decoder layer in place, for any length; the head and the embeddings stay as they are.

    The first steps take long; it pays from some hundred steps on.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for layer in base.get_decoder().layers:
        layer.compile(dynamic=True)


def supports_packing(model: Any) -> bool:
    """Whether the model's attention can be replaced and every layer is attention, so that rows may be packed."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return bool(getattr(model, "_supports_attention_backend", False)) and kinds <= {
        "full_attention",
        "sliding_attention",
    }


@contextmanager
def _plain_logits(model: Any) -> Iterator[LogitTransform]:
    """Keep the model from scaling or capping what the head returns; the head does it itself."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale, saved = 1.0, []
    for owner, name, inverse in ((base, "logit_scale", False), (config, "logits_scaling", True)):
        value = getattr(owner, name, None)
        if isinstance(value, (int, float)) and value != 1:
            scale *= 1 / value if inverse else value
            saved.append((owner, name, value))
            setattr(owner, name, 1.0)
    if softcap is not None:
        saved.append((config, "final_logit_softcapping", softcap))
        config.final_logit_softcapping = None
    try:
        yield LogitTransform(scale=scale, softcap=softcap)
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)


ATTENTION = {"shared": attention.NAME, "packed": attention.NAME, "padded": "sdpa"}
"""Attention implementation of each way of batching."""
