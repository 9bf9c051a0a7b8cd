"""The GPU's Triton kernels: their arithmetic through Triton's interpreter on a CPU, and the compiled ones on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.training.test_head import H, example, plain
from tests.triton_kernels import compile_for_hopper, run_interpreted
from training.head import LogitTransform, response_logps

TRANSFORMS = [LogitTransform(), LogitTransform(scale=0.5, softcap=3.0)]
INTERPRETED = """
import sys, torch
from tests.training.test_head import outcome, plain, example
from tests.training.test_fused_rows import TRANSFORMS
from training.head import response_logps
from training import fused_rows
fused_rows._BLOCK = 32   # so that a row of 101 takes four blocks, the last one partly outside
for transform in TRANSFORMS:
    hidden, head, rows, labels = example()
    ours = response_logps(hidden, head, rows, labels, transform=transform, chunk=16, fused=True)
    wanted = plain(hidden, head, rows, labels, transform)
    for found, expected in zip(outcome(ours, hidden, head), outcome(wanted, hidden, head), strict=True):
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        print(difference)
        assert difference < 1e-5, difference
"""

CHUNKED = """
import torch
from tests.training.test_head import H, R, V, Kinds, example, outcome
from training import head as heads
heads.CHUNK_ELEMENTS, heads.LEAST_CHUNK = 16 * V, 16
hidden, head, rows, labels = example(dtype=torch.bfloat16)
for num_rows, trained in ((2 * H, True), (2 * H + 1, True), (2 * H, False)):
    head.weight.requires_grad_(trained)
    with Kinds() as kinds:
        logps = heads.response_logps(hidden, head, rows[:num_rows], labels[:num_rows], fused=True)
        logps.sum().backward()
    print(max(shape[0] for shape, _ in kinds.seen if shape[1:] == (V,)), ((V, H), torch.float32) in kinds.seen)
"""


@pytest.mark.slow
def test_all_rows_are_one_chunk_where_that_takes_less_than_a_sum_over_several() -> None:
    """2H rows of bfloat16 logits are as large as a float32 copy of the weight."""
    assert run_interpreted(CHUNKED).splitlines() == [f"{2 * H} False", "16 True", "16 False"]


@pytest.mark.slow
def test_kernels_equal_the_plain_head_in_the_interpreter() -> None:
    """The kernels' own code, run by Triton without a GPU."""
    assert len(run_interpreted(INTERPRETED).split()) == 6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["*bf16", "*fp32"])
@pytest.mark.parametrize("has_cap", [False, True])
def test_kernels_compile_for_a_gpu(dtype: str, has_cap: bool) -> None:
    """The interpreter takes more than the compiler does."""
    from training.fused_rows import _backward_kernel, _forward_kernel

    shared = {"logits": dtype, "labels": "*i64", "norms": "*fp32"}
    rest = {"num_columns": "i32", "stride": "i32", "scale": "fp32", "softcap": "fp32"}
    for kernel, own in ((_forward_kernel, "logps"), (_backward_kernel, "upstream")):
        assert compile_for_hopper(kernel, {**shared, own: "*fp32", **rest}, {"has_cap": has_cap, "block": 4096}) > 0


@pytest.mark.gpu
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_equal_the_plain_head_on_a_gpu(transform: LogitTransform, dtype: torch.dtype) -> None:
    hidden, head, rows, labels = (part.to("cuda") for part in example(dtype=dtype))
    hidden = hidden.detach().requires_grad_()
    ours = response_logps(hidden, head, rows, labels, transform=transform, chunk=16)
    wanted = plain(hidden, head, rows, labels, transform)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    upstream = torch.linspace(-1, 2, len(labels), device="cuda")
    inputs = [hidden, head.weight]
    ours_grads, wanted_grads = (torch.autograd.grad(each, inputs, upstream) for each in (ours, wanted))
    for found, expected in zip((ours, *ours_grads), (wanted, *wanted_grads), strict=True):
        assert (found - expected).abs().max() < tolerance * float(expected.abs().max().clamp(min=1))
