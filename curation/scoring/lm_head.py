"""Log-probs of given tokens from hidden states, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Logits that are held at once, by device: what stays in a CPU's cache, and what keeps a GPU's matmul busy."""


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
    rows = max(1, CHUNK_ELEMENTS.get(hidden.device.type, 1 << 22) // vocab_size)
    out = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        logits = logits_of(hidden[part]).float()
        out[part] = logits.gather(-1, token_ids[part, None])[:, 0] - logits.logsumexp(-1)
    return out
