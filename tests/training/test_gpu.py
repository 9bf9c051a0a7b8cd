"""Training on an NVIDIA GPU against the CPU: its attention, the Triton head, bfloat16, compiled layers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.training.running import train_quietly
from tests.training.test_packing import CONFIGS, SHAPES, random_pairs
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention

pytestmark = pytest.mark.gpu


def margins_and_gradients(config: Any, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of all pairs in one row, by the attention that this device and dtype take."""
    pairs = random_pairs(1, shapes=SHAPES)
    (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=10_000)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device, dtype)
    set_attention(model, ATTENTION["shared"])
    margin = pair_logps(model, pack.to(torch.device(device))).policy_margin
    torch.nn.functional.softplus(-0.5 * margin).sum().backward()
    return margin.detach().cpu(), [p.grad.float().cpu() for p in model.parameters()]


@pytest.mark.parametrize("head_dim", [8, 16])
@pytest.mark.parametrize("name", CONFIGS)
def test_rows_on_a_gpu_equal_those_on_a_cpu(name: str, head_dim: int) -> None:
    """In float32: small heads under a mask, larger ones by the compiled FlexAttention."""
    config = copy.deepcopy(CONFIGS[name])
    config.head_dim = head_dim
    expected, wanted = margins_and_gradients(config, "cpu", torch.float32)
    margin, gradients = margins_and_gradients(config, "cuda", torch.float32)
    assert (margin - expected).abs().max() < 1e-3
    for gradient, other in zip(gradients, wanted, strict=True):
        assert (gradient - other).abs().max() <= 1e-3 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("head_dim", [8, 64])
@pytest.mark.parametrize("name", [name for name in CONFIGS if "mixtral" not in name])  # routes by rounding
def test_rows_in_half_precision_are_as_near_to_float32_as_padded_ones(name: str, head_dim: int) -> None:
    """By FlashAttention over sequences, without a mask."""
    config = copy.deepcopy(CONFIGS[name])
    config.head_dim = head_dim
    expected, wanted = margins_and_gradients(config, "cpu", torch.float32)
    margin, gradients = margins_and_gradients(config, "cuda", torch.bfloat16)
    assert (margin - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()
    for gradient, other in zip(gradients, wanted, strict=True):
        assert (gradient - other).norm() < 0.15 * other.norm()


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "compile": True},
        {"dtype": "bfloat16", "gradient_checkpointing": "full"},
        {"dtype": "bfloat16", "optimizer": "adamw_8bit"},
        {"dtype": "bfloat16", "optimizer_in_backward": True, "max_grad_norm": 0},
        {"lora": {"rank": 4, "quantize": "4bit"}, "check_tolerance": 1.0},
    ],
    ids=str,
)
def test_every_way_trains_on_a_gpu(settings: dict[str, Any], hh_export: Path, tmp_path: Path) -> None:
    result = train_quietly(hh_export, tmp_path / "out", max_steps=2, learning_rate=1e-4, **settings)
    assert result.before["loss"] == pytest.approx(0.6931, abs=0.05)
    assert result.after["policy_margin"] != result.before["policy_margin"]
    assert any("gpu_memory_gb" in logs for logs in result.log_history)
