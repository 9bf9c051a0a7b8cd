"""The CPU's loops give what torch gives in float64, up to the rounding of what they return."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from curation.scoring import cpu_kernels
from curation.scoring.cpu_threads import in_parts
from curation.scoring.packing import Trees
from curation.scoring.tree_attention import attention_in_blocks

HALF_ULP = 2**-8  # of bfloat16, relative


def _random(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (700, 1000), (0, 5)])
def test_log_sum_exp(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    logits = _random(*shape, dtype=dtype) * 10
    expected = logits.double().logsumexp(-1)
    torch.testing.assert_close(cpu_kernels.log_sum_exp(logits).double(), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("shift", [-30_000.0, -200.0, 200.0, 30_000.0])
def test_log_sum_exp_of_logits_of_any_size(shift: float) -> None:
    logits = (_random(5, 300, dtype=torch.float32) * 40).sub(shift)
    logits[0] = logits[0].abs().neg() - 1  # a row without a positive logit
    expected = logits.double().logsumexp(-1)
    torch.testing.assert_close(cpu_kernels.log_sum_exp(logits).double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf")])
def test_log_sum_exp_hides_no_number_that_is_none(bad: float) -> None:
    logits = torch.zeros(3, 40)
    logits[1, 33] = bad
    assert cpu_kernels.log_sum_exp(logits).isfinite().tolist() == [True, False, True]


def test_a_masked_logit_adds_nothing() -> None:
    logits = torch.zeros(1, 40)
    logits[0, 7:] = -float("inf")
    assert cpu_kernels.log_sum_exp(logits).item() == pytest.approx(np.log(7), rel=1e-6)


def test_many_rows_in_several_threads_are_the_same_rows() -> None:
    logits = _random(1100, 1000)  # enough for four parts
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = cpu_kernels.log_sum_exp(logits)
        torch.set_num_threads(3)
        assert torch.equal(cpu_kernels.log_sum_exp(logits), alone)
    finally:
        torch.set_num_threads(threads)


def test_silu_product() -> None:
    both = _random(40, 2 * 33) * 8
    gate, up = both.double().chunk(2, dim=-1)
    found = cpu_kernels.silu_product(both).double()
    torch.testing.assert_close(found, silu(gate) * up, rtol=HALF_ULP, atol=1e-30)


def test_silu_product_of_the_largest_numbers() -> None:
    both = torch.tensor([[3e38, -3e38, 0.0, 1.0, 1.0, 1.0]]).bfloat16()
    assert cpu_kernels.silu_product(both).tolist() == [[both[0, 0].item(), 0.0, 0.0]]


def test_rms_norm() -> None:
    x, weight = _random(2, 20, 48) * 5, _random(48, seed=1)
    norm = torch.nn.RMSNorm(48, eps=1e-5)
    norm.weight = torch.nn.Parameter(weight.double(), requires_grad=False)
    found = cpu_kernels.rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(found.double(), norm(x.double()), rtol=3 * HALF_ULP, atol=0)


def test_adding_and_norm_in_place() -> None:
    x, residual, weight = _random(20, 48), _random(20, 48, seed=1) * 5, _random(48, seed=2)
    total = x.float() + residual.float()
    normal = total * (total.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
    found, found_total = cpu_kernels.add_rms_norm(x, residual, weight, 1e-5)
    assert found.data_ptr() == x.data_ptr()
    assert torch.equal(found_total, total.bfloat16())
    torch.testing.assert_close(found.float(), normal * weight.float(), rtol=3 * HALF_ULP, atol=0)


def test_views_are_read_right() -> None:
    whole, weight = _random(6, 4, 96), _random(32, seed=1)
    part, residual = whole[:, :, 32:64], _random(6, 4, 64, seed=2)[:, :, ::2]
    expected = cpu_kernels.rms_norm(part.clone(), weight, 1e-5)
    assert torch.equal(cpu_kernels.rms_norm(part, weight, 1e-5), expected)
    both = cpu_kernels.add_rms_norm(part.clone(), residual.clone(), weight, 1e-5)
    assert all(map(torch.equal, cpu_kernels.add_rms_norm(part, residual, weight, 1e-5), both))
    assert torch.equal(cpu_kernels.silu_product(part), cpu_kernels.silu_product(part.clone()))
    assert cpu_kernels.silu_product(whole[:0]).shape == (0, 4, 48)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_another_dtype_is_refused(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 8, dtype=dtype)
    for work in (cpu_kernels.silu_product, lambda x: cpu_kernels.rms_norm(x, x[0], 1e-5)):
        with pytest.raises(TypeError, match="bfloat16"):
            work(x)


@pytest.mark.slow
def test_a_child_process_has_threads_of_its_own() -> None:
    code = (
        "import os, torch; from curation.scoring.cpu_kernels import log_sum_exp; torch.set_num_threads(2);"
        "x = torch.zeros(600, 1000); log_sum_exp(x); child = os.fork();"
        "log_sum_exp(x) if child == 0 else None; os._exit(0) if child == 0 else print(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"


def _forest(lengths: list[tuple[int, ...]]) -> Trees:
    """Rows of a prompt and responses of these lengths."""
    begin = torch.full((len(lengths), max(map(sum, lengths))), -1)
    for row, (prompt, *responses) in enumerate(lengths):
        begin[row, :prompt] = 0
        end = prompt
        for size in responses:
            begin[row, end : end + size] = end
            end += size
    return Trees(torch.tensor([prompt for prompt, *_ in lengths]), begin)


def test_what_a_query_does_not_see_changes_nothing() -> None:
    trees = _forest([(5, 4, 4)])
    query, key, value = (_random(1, 1, 13, 16, seed=seed) for seed in range(3))
    alone = attention_in_blocks(query, key, value, trees, 0.25)
    key[:, :, 5:9] = query[:, :, 9:10] * 400  # the first response, to which the second one's scores would be enormous
    together = attention_in_blocks(query, key, value, trees, 0.25)
    assert torch.equal(alone[:, 9:], together[:, 9:])


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.1, 0.25])
def test_tree_attention_in_blocks_is_attention_under_the_whole_mask(key_heads: int, scale: float) -> None:
    trees = _forest([(90, 30, 41, 5), (1, 2), (100, 60), (3, 1, 1, 1)])
    length = trees.begin.shape[1]
    query, key, value = (_random(4, heads, length, 16, seed=heads) for heads in (4, key_heads, key_heads))
    found = attention_in_blocks(query, key, value, trees, scale)
    expected = scaled_dot_product_attention(
        query.double(), key.double(), value.double(), attn_mask=trees.mask(), scale=scale, enable_gqa=True
    ).transpose(1, 2)
    is_row = trees.begin >= 0
    difference = (found.double() - expected)[is_row].abs().max()
    assert difference < 0.02, "some roundings of bfloat16 of values up to 4"
    assert found[~is_row].eq(0).all(), "what lies behind a row's end is a number"


def test_every_row_is_done_once_by_torchs_threads() -> None:
    done = np.zeros(1000, dtype=np.int64)

    def loop(first: int, last: int) -> None:
        done[first:last] += 1

    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            in_parts(loop, 1000, 1 << 30)
    finally:
        torch.set_num_threads(threads)
    assert (done == 3).all()


def test_an_error_in_a_part_is_raised() -> None:
    def loop(first: int, last: int) -> None:
        raise ValueError(f"{first} to {last}")

    with pytest.raises(ValueError, match="to"):
        in_parts(loop, 1000, 1 << 30)


@pytest.mark.parametrize(("length", "num_heads", "num_key_heads", "size"), [(5, 4, 2, 16), (37, 3, 3, 64)])
def test_heads_are_turned_as_in_llama(length: int, num_heads: int, num_key_heads: int, size: int) -> None:
    torch.manual_seed(0)
    heads = torch.randn(2, length, (num_heads + 2 * num_key_heads) * size).bfloat16()
    angles = torch.rand(1, length, size // 2).repeat(1, 1, 2) * 6
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    parts = heads.unflatten(-1, (-1, size)).transpose(1, 2).split([num_heads, num_key_heads, num_key_heads], dim=1)
    query, key, value = parts
    expected = (*apply_rotary_pos_emb(query.float(), key.float(), cos.float(), sin.float()), value)
    for found, wanted in zip(
        cpu_kernels.rotated_heads(heads, cos, sin, num_key_heads=num_key_heads), expected, strict=True
    ):
        assert torch.allclose(found.float(), wanted.float(), rtol=HALF_ULP, atol=1e-6)
