"""What a model does to its logits behind the LM head, which the chunked head has to do itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import ModelError
from training.head import LogitTransform

_CAPS = {"final_logit_softcapping": None, "logits_soft_cap": 1e20, "output_logit_soft_cap": 1e20}
"""Names of the cap in a model's configuration, and the value that caps nothing (some take nothing but a number)."""

_NUM_TOKENS = 4


def without_adapter(model: Any) -> Any:
    """The model under an adapter, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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


@contextmanager
def plain_logits(model: Any) -> Iterator[LogitTransform]:
    """Keep the model from scaling or capping what the head returns; gives what it would have done.

    Nor does it compute its routers' loss then, which is not trained on and would have the last layer route every token.
    """
    base = without_adapter(model)
    config = base.config.get_text_config()
    saved: list[tuple[Any, str, Any]] = []

    def take(owner: Any, name: str, plain: Any) -> Any:
        value = getattr(owner, name, plain)
        if isinstance(value, (int, float)) and value != plain:
            saved.append((owner, name, value))
            setattr(owner, name, plain)
            return value
        return plain

    scale = take(base, "logit_scale", 1.0) / take(config, "logits_scaling", 1.0)
    scale *= take(getattr(base, "model", None), "lm_head_multiplier", 1.0)
    caps = [cap for name, none in _CAPS.items() if (cap := take(config, name, none)) != none]
    take(config, "output_router_logits", False)
    try:
        yield LogitTransform(scale=scale, softcap=caps[0] if caps else None)
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)


def check_logits(model: Any) -> None:
    """Refuse a model of which :func:`plain_logits` does not know all that it does to its logits.

    Args:
        model: a causal language model of ``transformers``, asked in two forward passes of four tokens.

    Raises:
        ModelError: its LM head is no linear layer, or the model's logits are not those that are known.
    """
    with plain_logits(model) as transform:
        raw, untouched = _passed(model)
    _, logits = _passed(model)
    for found, expected in ((untouched, raw), (logits, transform.forward_(raw.clone()))):
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=2e-2, atol=1e-3, equal_nan=True):
            raise ModelError(
                f"{type(model).__name__} changes what its LM head returns in a way that training does not know",
                mend="train a model whose logits are its head's, or these scaled or capped",
            )


def _passed(model: Any) -> tuple[Tensor, Tensor]:
    """What the head returns for four tokens, and the model's logits, float32. Both of Shape (1, tokens, V)."""
    raw: list[Tensor] = []
    hook = lm_head(model).register_forward_hook(lambda _, given, out: raw.append(out.float().clone()))
    was_training = model.training
    ids = torch.arange(_NUM_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    try:
        with torch.no_grad():
            logits = model.eval()(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
        model.train(was_training)
    return raw[0], logits.float()
