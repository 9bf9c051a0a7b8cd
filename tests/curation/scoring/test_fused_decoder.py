"""A decoder layer is replaced where it does what ours does, and a model with ours scores as it did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    HeliumConfig,
    LlamaConfig,
    Ministral3Config,
    MistralConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from curation.scoring.fused_decoder import FusedDecoderLayer, _trees, fuse_decoder
from curation.scoring.fused_layers import fuse_layers
from curation.scoring.last_mlp import keep_last_mlp_to_rows
from curation.scoring.tree_attention import NAME

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "vocab_size": 128,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


FAR = {
    "rope_type": "default",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 64,
    "llama_4_scaling_beta": 0.5,
}


def _model(config: type, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Any:
    torch.manual_seed(0)
    made = config(num_attention_heads=4, num_key_value_heads=2, **{**SIZES, **options})
    model = AutoModelForCausalLM.from_config(made, dtype=dtype).eval()
    model.set_attn_implementation(NAME)
    return model


@pytest.mark.parametrize(
    ("config", "options", "num_fused"),
    [
        (LlamaConfig, {"attention_bias": True, "mlp_bias": True}, 4),
        (MistralConfig, {"head_dim": 32, "sliding_window": None}, 4),
        (Qwen2Config, {}, 4),  # biases of queries, keys and values alone
        (SmolLM3Config, {"no_rope_layers": [1, 1, 1, 0]}, 3),  # its fourth layer knows no places
        (Qwen3Config, {"head_dim": 16}, 0),  # norms of heads
        (Olmo2Config, {}, 0),  # norms behind
        (GraniteConfig, {"residual_multiplier": 0.5}, 0),
        (Ministral3Config, {"rope_parameters": FAR, "head_dim": 16}, 0),  # scales queries at far places
        (HeliumConfig, {"head_dim": 16}, 0),  # turns even and odd numbers, and not halves
    ],
)
def test_layers_are_replaced_that_do_the_same(config: type, options: Any, num_fused: int) -> None:
    model = _model(config, **options)
    trees, places = _trees()
    ids = torch.randint(5, 128, places.shape, generator=torch.Generator().manual_seed(1))
    seen = trees.begin >= 0
    with torch.inference_mode():
        model.float().set_attn_implementation("sdpa")
        exact = model.base_model(ids, attention_mask=trees.mask(), position_ids=places, use_cache=False)
        model.bfloat16().set_attn_implementation(NAME)
        fuse_layers(model.base_model)
        before = model.base_model(ids, position_ids=places, trees=trees, use_cache=False).last_hidden_state[seen]
        fuse_decoder(model)
        after = model.base_model(ids, position_ids=places, trees=trees, use_cache=False).last_hidden_state[seen]
    assert sum(isinstance(layer, FusedDecoderLayer) for layer in model.base_model.layers) == num_fused
    off = [float((found.float() - exact.last_hidden_state[seen]).norm()) for found in (before, after)]
    assert off[1] <= 1.2 * off[0], "no less exact than it was"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_mlp_works_on_the_rows_that_are_read(dtype: torch.dtype) -> None:
    model = _model(LlamaConfig, dtype)
    model.set_attn_implementation("sdpa")
    ids = torch.randint(5, 128, (2, 9), generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([3, 8, 11])
    with torch.inference_mode():
        expected = model.base_model(ids, use_cache=False).last_hidden_state.flatten(0, 1)
        kept = keep_last_mlp_to_rows(model)
        assert kept is not None
        with kept.only(rows):
            found = model.base_model(ids, use_cache=False).last_hidden_state.flatten(0, 1)
        again = model.base_model(ids, use_cache=False).last_hidden_state.flatten(0, 1)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.05}
    assert torch.allclose(found[rows], expected[rows], **tolerance)
    assert not torch.allclose(found[0], expected[0], **tolerance)
    assert torch.equal(again, expected)


def test_an_mlp_that_is_run_twice_is_left_alone() -> None:
    """Some models go through their layers repeatedly: what the first round makes of a prompt is read by the second."""
    model = _model(LlamaConfig)
    model.set_attn_implementation("sdpa")
    layers = model.base_model.layers
    layers[0].mlp = layers[-1].mlp
    assert keep_last_mlp_to_rows(model) is None


def test_an_mlp_that_looks_at_other_tokens_is_left_alone() -> None:
    model = _model(LlamaConfig)
    model.set_attn_implementation("sdpa")

    class Mixing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x.mean(1, keepdim=True)

    model.base_model.layers[-1].mlp = Mixing()
    assert keep_last_mlp_to_rows(model) is None
    assert isinstance(model.base_model.layers[-1].mlp, Mixing)
