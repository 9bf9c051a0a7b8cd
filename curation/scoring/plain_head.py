"""Whether a model's logits are its LM head over its base model's last hidden states, and nothing else."""

from __future__ import annotations

from typing import Any

import torch

from schemas.errors import EngineError, ModelError

_NUM_TOKENS = 24
_LOGIT_SIZE = 20.0  # root mean square to which logits are brought, so that a cap on them shows whatever the weights
_TOLERANCE = {torch.float32: 1e-3}  # of the logits' root mean square
_LOW_PRECISION_TOLERANCE = 2e-2


@torch.inference_mode()
def require_plain_head(model: Any, name: str) -> None:
    """Compare ``model(ids).logits`` with the head applied to ``model.base_model(ids)``, on random tokens.

    Models differ between the two: a layer before the head (ModernBertDecoder), a factor on its logits (Granite, Cohere,
    Falcon-H1) or a cap (Gemma 2, RecurrentGemma, xLSTM). A cap does nothing to the small logits of one model and much
    to another's, so the head's output is made large for the comparison.

    Args:
        model: a causal language model of transformers.
        name: of the policy, for the error.

    Raises:
        EngineError: they differ, or the model has no head or no base model.
        ModelError: its logits are not finite.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise EngineError(f"{name} has no LM head that transformers knows of", mend="score it with --engine vllm")
    generator = torch.Generator().manual_seed(0)
    vocab_size = model.config.get_text_config().vocab_size
    ids = torch.randint(5, vocab_size, (1, _NUM_TOKENS), generator=generator).to(model.device)
    states = getattr(model.base_model(ids, use_cache=False), "last_hidden_state", None)
    if states is None:
        raise EngineError(
            f"{name} gives no hidden states that transformers knows of", mend="score it with --engine vllm"
        )
    own = head(states).float()
    if not own.isfinite().all():
        raise ModelError(
            f"{name} gives logits that are not finite",
            mend="try --dtype float32; where that does not help its weights hold NaN or infinity, so save them again",
        )
    factor = _LOGIT_SIZE / own.square().mean().sqrt().clamp_min(1e-6)
    hook = head.register_forward_hook(lambda module, inputs, output: output * factor.to(output.dtype))
    try:
        whole = model(ids, use_cache=False).logits.float()
    finally:
        hook.remove()
    difference = (whole - own * factor).square().mean().sqrt() / _LOGIT_SIZE
    if not difference <= _TOLERANCE.get(model.dtype, _LOW_PRECISION_TOLERANCE):
        raise EngineError(
            f"{name} changes hidden states or logits beyond its LM head (logits differ by {float(difference):.1%})",
            mend="score it with --engine vllm",
        )
