"""8-bit AdamW and QLoRA through bitsandbytes, which has both for CPUs too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import TrainingError
from tests.training.running import train_quietly

pytestmark = pytest.mark.slow


def test_eight_bit_adamw_takes_nearly_the_same_steps(hh_export: Path, tiny_en: Path, tmp_path: Path) -> None:
    """Its state is rounded, so weights differ a little from those of AdamW, and far less than both moved."""
    options = {"max_steps": 4, "learning_rate": 1e-4}
    whole = train_quietly(hh_export, tmp_path / "whole", **options)
    small = train_quietly(hh_export, tmp_path / "small", optimizer="adamw_8bit", **options)
    first, second = (load_file(run.checkpoint / "model.safetensors") for run in (whole, small))
    start = load_file(tiny_en / "model.safetensors")
    moved = sum(float((first[name] - start[name].float()).square().sum()) for name in first)
    apart = sum(float((first[name] - second[name]).square().sum()) for name in first)
    assert 0 < apart < 0.1 * moved
    assert small.after["loss"] == pytest.approx(whole.after["loss"], rel=0.02)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_qlora_trains_an_adapter_over_a_quantized_base(bits: str, hh_export: Path, tmp_path: Path) -> None:
    options = {"lora": {"rank": 4, "quantize": bits}, "max_steps": 2, "learning_rate": 1e-3}
    result = train_quietly(hh_export, tmp_path / "out", check_tolerance=1.0, **options)
    assert result.check is not None
    assert 1e-4 < result.check["mean_difference"] < 0.5
    weights = load_file(result.checkpoint / "adapter_model.safetensors")
    assert all("lora_" in name for name in weights)
    assert any(bool(torch.any(weight != 0)) for name, weight in weights.items() if "lora_B" in name)
    assert result.after["policy_margin"] != result.before["policy_margin"]


def test_a_quantized_base_that_is_too_far_from_the_scorers(hh_export: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the base is quantized and the scorer's was not"):
        train_quietly(hh_export, tmp_path / "out", lora={"quantize": "4bit"}, check_tolerance=1e-6)
