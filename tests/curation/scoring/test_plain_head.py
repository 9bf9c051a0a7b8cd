"""A model whose logits are not its head over its hidden states is refused, never scored wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GraniteConfig,
    Llama4TextConfig,
    LlamaConfig,
    ModernBertDecoderConfig,
    Qwen3Config,
    RecurrentGemmaConfig,
    xLSTMConfig,
)

from curation.scoring.plain_head import require_plain_head
from schemas.errors import EngineError, ModelError

SHAPE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {"num_key_value_heads": 1, "head_dim": 16}
LSTM = {"embedding_dim": 32, "num_blocks": 2, "num_heads": 2, "vocab_size": 128, "hidden_size": 32}
MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        ModernBertDecoderConfig(**SHAPE, cls_token_id=1, sep_token_id=2),
        FalconH1Config(**SHAPE, **HEADS, **MAMBA, lm_head_multiplier=0.5),
        RecurrentGemmaConfig(**SHAPE, num_key_value_heads=1, lru_width=32, logits_soft_cap=30.0),
        xLSTMConfig(**LSTM, output_logit_soft_cap=30.0),
        Gemma2Config(**SHAPE, **HEADS, final_logit_softcapping=30.0),
        GraniteConfig(**SHAPE, num_key_value_heads=1, logits_scaling=8.0),
        CohereConfig(**SHAPE, num_key_value_heads=1, logit_scale=0.0625),
    ],
    ids=lambda config: type(config).__name__,
)
def test_what_changes_its_logits_is_refused(config: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with pytest.raises(EngineError, match=r"policy changes hidden states or logits beyond its LM head .*--engine vllm"):
        require_plain_head(model, "policy")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "config",
    [LlamaConfig(**SHAPE), Qwen3Config(**SHAPE, **HEADS), GraniteConfig(**SHAPE, logits_scaling=1.0)],
    ids=lambda config: type(config).__name__,
)
def test_what_does_not_is_taken(config: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    require_plain_head(model, "policy")
    assert not model.get_output_embeddings()._forward_hooks, "what asked the head is gone"


def test_weights_that_are_no_numbers_are_said_to_be_so() -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = float("nan")
    with pytest.raises(ModelError, match=r"policy gives logits that are not finite .*--dtype float32"):
        require_plain_head(model, "policy")


def test_a_model_that_hides_its_states_is_refused() -> None:
    config = Llama4TextConfig(**SHAPE, num_key_value_heads=1, intermediate_size_mlp=64, num_local_experts=2)
    with pytest.raises(EngineError, match=r"policy gives no hidden states .*--engine vllm"):
        require_plain_head(AutoModelForCausalLM.from_config(config).eval(), "policy")
