"""Log-probs of given tokens from hidden states, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from curation.scoring import cpu_kernels

_HEAD_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}  # logits that are held at once
_HEAD_ROWS = 256  # below which a matmul does not pay, whatever the vocabulary


def token_logps(hidden: Tensor, token_ids: Tensor, logits_of: Callable[[Tensor], Tensor], *, vocab_size: int) -> Tensor:
    """log pi(token) for each row of hidden states, in nats.

    Args:
        hidden: states that predict the tokens. Shape (N, D).
        token_ids: the tokens, int64. Shape (N,).
        logits_of: the LM head, from (n, D) to (n, V).
        vocab_size: V, to size the chunks.

    Returns:
        Shape (N,), float32; the log-sum-exp is taken in float32 whatever the dtype of the head.
    """
    head_rows = max(_HEAD_ROWS, _HEAD_ELEMENTS.get(hidden.device.type, 1 << 22) // vocab_size)
    out = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), head_rows):
        logits = logits_of(hidden[start : start + head_rows])
        part = slice(start, start + len(logits))
        out[part] = _logps(logits, token_ids[part])
    return out


def _logps(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Log-probs of one token a row, in float32. Shape (N,)."""
    if logits.device.type == "cuda":
        from curation.scoring import gpu_kernels

        return gpu_kernels.token_logps(logits, token_ids)
    norms = cpu_kernels.log_sum_exp(logits if logits.dtype == torch.bfloat16 else logits.float())
    return logits.gather(-1, token_ids[:, None])[:, 0].float() - norms
