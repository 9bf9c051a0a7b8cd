# mypy: disable-error-code="no-untyped-def"
"""A Triton kernel for the rows of logits that the LM head makes on a GPU: one pass over them, and no float32 copy."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096

# The kernel's arguments bear no annotations: Triton's compiler takes an annotation for a global that it may not see.


@triton.jit
def _logps_kernel(logits, token_ids, logps, num_columns, stride, block: tl.constexpr):
    """One row a program: its log-sum-exp with a running maximum, and the log-prob of its token."""
    row = tl.program_id(0).to(tl.int64)
    begin_of_row = logits + row * stride
    highest = -float("inf")
    total = 0.0
    for begin in range(0, num_columns, block):
        columns = begin + tl.arange(0, block)
        values = tl.load(begin_of_row + columns, mask=columns < num_columns, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(values, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(values - higher), 0)
        highest = higher
    of_token = tl.load(begin_of_row + tl.load(token_ids + row)).to(tl.float32)
    tl.store(logps + row, of_token - highest - tl.log(total))


def token_logps(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log pi(token) of each row, in nats.

    Args:
        logits: any float type, finite in each row's first numbers, columns side by side. Shape (N, V).
        token_ids: int64, contiguous. Shape (N,).

    Returns:
        float32, Shape (N,).
    """
    logps = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    block = min(_BLOCK, triton.next_power_of_2(logits.shape[1]))
    if len(logits):
        _logps_kernel[(len(logits),)](logits, token_ids, logps, logits.shape[1], logits.stride(0), block)
    return logps
