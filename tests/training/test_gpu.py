"""Training on an NVIDIA GPU against the CPU: FlexAttention, the Triton head, bfloat16, compiled layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.training.running import train_quietly
from tests.training.test_packing import CONFIGS, SHAPES, random_pairs
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_on_a_gpu_equal_those_on_a_cpu(name: str) -> None:
    """Log-probs and gradients of shared rows, by the compiled FlexAttention and by the CPU's blocks."""
    pairs = random_pairs(1, shapes=SHAPES)
    (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=10_000)
    found: list[tuple[Any, list[torch.Tensor]]] = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32).to(device)
        set_attention(model, ATTENTION["shared"])
        margin = pair_logps(model, pack.to(torch.device(device))).policy_margin
        torch.nn.functional.softplus(-0.5 * margin).sum().backward()
        found.append((margin.detach().cpu(), [p.grad.cpu() for p in model.parameters()]))
    (expected, wanted), (margin, gradients) = found
    assert (margin - expected).abs().max() < 1e-3
    for gradient, other in zip(gradients, wanted, strict=True):
        assert (gradient - other).abs().max() <= 1e-3 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "compile": True},
        {"dtype": "bfloat16", "gradient_checkpointing": "full"},
        {"dtype": "bfloat16", "optimizer": "adamw_8bit"},
        {"lora": {"rank": 4, "quantize": "4bit"}, "check_tolerance": 1.0},
    ],
    ids=str,
)
def test_every_way_trains_on_a_gpu(settings: dict[str, Any], hh_export: Path, tmp_path: Path) -> None:
    result = train_quietly(hh_export, tmp_path / "out", max_steps=2, learning_rate=1e-4, **settings)
    assert result.before["loss"] == pytest.approx(0.6931, abs=0.05)
    assert result.after["policy_margin"] != result.before["policy_margin"]
    assert any("gpu_memory_gb" in logs for logs in result.log_history)
