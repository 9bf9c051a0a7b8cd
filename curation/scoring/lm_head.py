"""Log-probs of given tokens from hidden states, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_HEAD_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}  # logits that are held at once
_HEAD_ROWS = 256  # below which a matmul does not pay, whatever the vocabulary
_SUM_ELEMENTS = {
    "cpu": 1 << 19,
    "cuda": 1 << 28,
}  # logits that are summed at once: 2 MiB in float32 stay in a CPU's cache
_LEAST_SUM, _LARGEST_SUM = 1e-20, 1e35


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
    device = hidden.device.type
    head_rows = max(_HEAD_ROWS, _HEAD_ELEMENTS.get(device, 1 << 22) // vocab_size)
    sum_rows = max(1, _SUM_ELEMENTS.get(device, 1 << 19) // vocab_size)
    out = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    room: Tensor | None = None
    for start in range(0, len(hidden), head_rows):
        logits = logits_of(hidden[start : start + head_rows])
        if room is None:
            room = torch.empty(min(sum_rows, len(logits)), logits.shape[1], device=hidden.device)
        for offset in range(0, len(logits), sum_rows):
            some = logits[offset : offset + sum_rows]
            part = slice(start + offset, start + offset + len(some))
            out[part] = some.gather(-1, token_ids[part, None])[:, 0].float() - _log_sum_exp(some, room[: len(some)])
    return out


def _log_sum_exp(logits: Tensor, room: Tensor) -> Tensor:
    """log of the sum of exp over the last dimension in float32, using ``room`` (float32, of the logits' shape).

    On a CPU each pass over the logits counts, so the usual search for the largest one is left out, and made up for
    where a sum left the range in which float32 holds all of its terms.
    """
    room.copy_(logits)
    if room.device.type != "cpu":
        return room.logsumexp(-1)
    total = room.exp_().sum(-1)
    is_exact = (total > _LEAST_SUM) & (total < _LARGEST_SUM)
    if not is_exact.all():
        return logits.float().logsumexp(-1)
    return total.log_()
