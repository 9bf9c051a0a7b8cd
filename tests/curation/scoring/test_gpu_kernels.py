"""The GPU's kernel behind the LM head: compiled, interpreted on a CPU, and run on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.triton_kernels import compile_for_hopper, run_interpreted

INTERPRETED = """
from curation.scoring import gpu_kernels
from tests.curation.scoring.test_gpu_kernels import example, plain
gpu_kernels._BLOCK = 32  # so that a row of 101 takes four blocks, the last one partly outside
logits, token_ids = example("cpu")
print(float((gpu_kernels.token_logps(logits, token_ids) - plain(logits, token_ids)).abs().max()))
"""


def example(device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits whose rows lie further apart than they are long, one of them far from 0."""
    torch.manual_seed(0)
    logits = torch.randn(7, 128, device=device, dtype=dtype)[:, :101] * 4
    logits[3] += 200
    return logits, torch.randint(0, 101, (7,), device=device)


def plain(logits: Tensor, token_ids: Tensor) -> Tensor:
    return logits.double().log_softmax(-1).gather(-1, token_ids[:, None])[:, 0].float()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["*bf16", "*fp16", "*fp32"])
def test_compiles_for_a_gpu(dtype: str) -> None:
    from curation.scoring.gpu_kernels import _logps_kernel

    signature = {"logits": dtype, "token_ids": "*i64", "logps": "*fp32", "num_columns": "i32", "stride": "i32"}
    assert compile_for_hopper(_logps_kernel, signature, {"block": 4096}) > 0


@pytest.mark.slow
def test_equals_log_softmax_in_the_interpreter() -> None:
    assert float(run_interpreted(INTERPRETED)) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equals_log_softmax_on_a_gpu(dtype: torch.dtype) -> None:
    from curation.scoring.gpu_kernels import token_logps

    logits, token_ids = example("cuda", dtype)
    assert (token_logps(logits, token_ids) - plain(logits, token_ids)).abs().max() < 1e-4
