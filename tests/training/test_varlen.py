"""Attention over sequences of unequal length, with torch's GPU kernels replaced by the same sums on a CPU.

What is held here is all but the kernels: which queries and keys a call names, grouped heads, windows, the way back,
and that a compiled layer is one graph for rows of every shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM

from tests.training import varlen_on_cpu
from tests.training.test_packing import CONFIGS, SHAPES, random_pairs
from training import varlen
from training.packing import pack_pairs
from training.policy import ATTENTION, compile_layers, pair_logps, set_attention

LLAMA = next(iter(CONFIGS.values()))


@pytest.fixture(autouse=True)
def kernels() -> None:
    varlen_on_cpu.register()


def margins_and_gradients(
    config: Any, dtype: torch.dtype, *, seeds: Sequence[int] = (1,), is_compiled: bool = False
) -> list[list[torch.Tensor]]:
    """For each seed the margins of the pairs of one row, then the gradient of every parameter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
    set_attention(model, ATTENTION["shared"])
    if is_compiled:
        compile_layers(model)
    found = []
    for seed in seeds:
        pairs = random_pairs(seed, shapes=SHAPES[: 2 + seed])
        (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=10_000)
        margin = pair_logps(model, pack).policy_margin
        model.zero_grad()
        torch.nn.functional.softplus(-0.5 * margin).sum().backward()
        found.append([margin.detach(), *(parameter.grad.float().clone() for parameter in model.parameters())])
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_as_sequences_trains_as_it_does_in_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = margins_and_gradients(CONFIGS[name], torch.float32)
    calls = []
    monkeypatch.setattr(varlen, "can_run", lambda *heads: calls.append(heads) or True)
    (found,) = margins_and_gradients(CONFIGS[name], torch.float32)
    assert len(calls) == CONFIGS[name].num_hidden_layers
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-4


@pytest.mark.slow
def test_a_compiled_layer_is_one_graph_for_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = (1, 2, 3, 4)
    expected = margins_and_gradients(LLAMA, torch.float32, seeds=seeds)
    monkeypatch.setattr(varlen, "has_kernels", torch.compiler.assume_constant_result(lambda device: True))
    torch.compiler.reset()
    counters.clear()
    compiled = margins_and_gradients(LLAMA, torch.bfloat16, seeds=seeds, is_compiled=True)
    assert counters["graph_break"] == {}
    assert counters["stats"]["unique_graphs"] <= 2  # another one where numbers that were equal at first are not
    torch.compiler.reset()
    for row, others in zip(compiled, expected, strict=True):
        for one, other in zip(row, others, strict=True):
            assert (one - other).norm() < 0.1 * other.norm()


def test_only_heads_that_the_kernels_take_go_to_them() -> None:
    def heads(size: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.zeros(1, 2, 3, size, dtype=dtype, device="meta")

    assert not varlen.can_run(heads(64), heads(64)), "not on an NVIDIA GPU"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "has_kernels", lambda device: True)
        assert varlen.can_run(heads(64), heads(64))
        assert not varlen.can_run(heads(64, torch.float32), heads(64, torch.float32))
        assert not varlen.can_run(heads(64), heads(32))
        assert not varlen.can_run(heads(12), heads(12))
        assert not varlen.can_run(heads(512), heads(512))
