"""A model's layers are replaced by loops only where both compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Olmo2Config, Phi3Config, Qwen3Config

from curation.scoring import cpu_kernels
from curation.scoring.fused_layers import FusedGatedMLP, FusedRMSNorm, fuse_layers
from curation.scoring.packed_linear import head_product


def _model(config: type, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128, "head_dim": 16}
    made = config(num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **{**sizes, **options})
    return AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16).eval()


def _count(model: nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize(
    ("config", "options", "num_norms", "num_mlps"),
    [
        (LlamaConfig, {"mlp_bias": True}, 5, 2),
        (Qwen3Config, {}, 9, 2),  # and two norms of heads a layer
        (GemmaConfig, {"hidden_act": "gelu_pytorch_tanh"}, 0, 0),  # its norm multiplies by 1 + weight
        (Olmo2Config, {"head_dim": None}, 9, 2),
        (Phi3Config, {"head_dim": None}, 5, 0),  # one layer for gate and up
    ],
)
def test_a_model_with_loops_computes_what_it_did(config: type, options: Any, num_norms: int, num_mlps: int) -> None:
    options = {name: value for name, value in options.items() if value is not None}
    model = _model(config, **options)
    ids = torch.randint(5, 128, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = model.float()(ids).logits
        before = model.bfloat16()(ids).logits.float()
        fuse_layers(model)
        after = model(ids).logits.float()
    assert (_count(model, FusedRMSNorm), _count(model, FusedGatedMLP)) == (num_norms, num_mlps)
    assert (after - exact).abs().mean() <= 1.3 * (before - exact).abs().mean(), "no less exact than in torch"


class _Clamped(nn.Module):
    """A SwiGLU with a limit, as some mixtures of experts have."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(16, 16).bfloat16() for _ in range(3))
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x).clamp(max=7)) * self.up_proj(x).clamp(-7, 7))


class _OfRows(nn.Module):
    """A norm that takes no input but of three dimensions, the second of them 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(16).bfloat16()), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("not enough values to unpack")


_OfRows.__name__ = "RowsRMSNorm"


@pytest.mark.parametrize("layer", [_Clamped(), _OfRows()])
def test_a_layer_that_is_another_is_left(layer: nn.Module) -> None:
    module = nn.Sequential(layer)
    fuse_layers(module)
    assert module[0] is layer


class _Head:
    """What :func:`head_product` looks at in a vLLM model."""

    def __init__(self, change: Any) -> None:
        self.lm_head = nn.Linear(16, 32, bias=False).bfloat16()
        self.lm_head.tp_size, self.lm_head.quant_method = 1, type("UnquantizedEmbeddingMethod", (), {})()
        self.logits_processor = type("LogitsProcessor", (), {"org_vocab_size": 32})()
        self._change = change

    def compute_logits(self, states: Tensor) -> Tensor:
        return self._change(self.lm_head, states)


@torch.inference_mode()
def test_a_head_that_does_more_is_not_replaced_by_a_product() -> None:
    has_units = cpu_kernels.has_matrix_units(torch.device("cpu"), torch.bfloat16)
    assert (head_product(_Head(lambda head, states: head(states))) is not None) == has_units
    for change in (
        lambda head, states: head(torch.nn.functional.rms_norm(states, (16,))),
        lambda head, states: 30 * torch.tanh(head(states) / 30),
        lambda head, states: head(states) * 0.5,
    ):
        assert head_product(_Head(change)) is None


@torch.inference_mode()
def test_a_head_that_is_not_finite_stays_as_it_is() -> None:
    head = _Head(lambda head, states: head(states))
    head.lm_head.weight[3] = float("nan")
    assert head_product(head) is None
