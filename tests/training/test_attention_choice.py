"""Every architecture trains with attention that computes what its own code does, packed where that can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from schemas.errors import ModelError
from tests.training.test_packing import SHAPES, SMALL, VOCABULARY, random_pairs
from training.attention_choice import choose_attention
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 5}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 3, "n_head": 6, "initializer_range": 0.2}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 48, "n_layer": 3, "n_head": 6, "initializer_range": 0.2}
BLOOM_NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
LARGE = {**SMALL, "head_dim": 8}
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}

CASES: dict[str, tuple[Any, str, str]] = {
    "llama": (transformers.LlamaConfig(**SMALL), "shared", "winnow_tree"),
    "mistral": (transformers.MistralConfig(**SMALL, **WINDOW), "shared", "winnow_tree"),
    "gemma3": (transformers.Gemma3TextConfig(**SMALL, **WINDOW, head_dim=8), "shared", "winnow_tree"),
    "gemma2, capped": (transformers.Gemma2Config(**SMALL, **WINDOW, head_dim=8), "padded", "eager"),
    "gemma2, not capped": (
        transformers.Gemma2Config(**SMALL, **WINDOW, head_dim=8, attn_logit_softcapping=None),
        "shared",
        "winnow_tree",
    ),
    "gpt-oss, sinks": (
        transformers.GptOssConfig(**SMALL, **WINDOW, head_dim=8, num_local_experts=2, num_experts_per_tok=1),
        "padded",
        "eager",
    ),
    "qwen2-moe, window": (
        transformers.Qwen2MoeConfig(
            **SMALL, **WINDOW, **EXPERTS, use_sliding_window=True, shared_expert_intermediate_size=16
        ),
        "padded",
        "sdpa",
    ),
    "qwen2-moe": (
        transformers.Qwen2MoeConfig(**SMALL, **EXPERTS, shared_expert_intermediate_size=16),
        "shared",
        "winnow_tree",
    ),
    "phimoe, window": (transformers.PhimoeConfig(**SMALL, **WINDOW, num_local_experts=4), "padded", "sdpa"),
    "phimoe, window, loss of the routers": (
        transformers.PhimoeConfig(**SMALL, **WINDOW, num_local_experts=4, output_router_logits=True),
        "padded",
        "sdpa",
    ),
    "nemotron, layers that hand nothing on": (transformers.NemotronConfig(**SMALL), "padded", "sdpa"),
    "recurrent gemma": (transformers.RecurrentGemmaConfig(**SMALL), "padded", "sdpa"),
    "doge, learned mask": (transformers.DogeConfig(**SMALL), "padded", "sdpa"),
    "bloom, an MLP of two arguments": (transformers.BloomConfig(**BLOOM, **BLOOM_NO_DROPOUT), "padded", "eager"),
    "modernbert decoder, a head called decoder": (
        transformers.ModernBertDecoderConfig(**SMALL, local_attention=10),
        "shared",
        "winnow_tree",
    ),
    "llama 4, no decoder but itself": (
        transformers.Llama4TextConfig(**LARGE, intermediate_size_mlp=80, num_local_experts=2),
        "padded",
        "sdpa",
    ),
    "afmoe, attention that is viewed": (
        transformers.AfmoeConfig(**LARGE, **WINDOW, **EXPERTS, num_dense_layers=1),
        "shared",
        "winnow_tree",
    ),
    "deepseek-v3, values smaller than queries": (
        transformers.DeepseekV3Config(
            **{**SMALL, "num_key_value_heads": 6},
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=8,
            first_k_dense_replace=3,
        ),
        "padded",
        "sdpa",
    ),
    "gpt2": (transformers.GPT2Config(**GPT2, **NO_DROPOUT), "shared", "winnow_tree"),
    "falcon": (
        transformers.FalconConfig(
            vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, initializer_range=0.2
        ),
        "padded",
        "sdpa",
    ),
}


def one_at_a_time(model: Any, pairs: Any) -> list[tuple[float, float]]:
    """(chosen, rejected) log-probs by the model's own code: no row holds two sequences, nothing is padded."""
    set_attention(model, "eager")
    found = []
    for index in range(len(pairs)):
        prompt = pairs.sequence(int(pairs.prompt[index])).tolist()
        sums = []
        for response in (pairs.chosen[index], pairs.rejected[index]):
            ids = torch.tensor([prompt + pairs.sequence(int(response)).tolist()])
            with torch.no_grad():
                token_logps = model(input_ids=ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
            sums.append(float(token_logps.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum()))
        found.append((sums[0], sums[1]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_choice_computes_what_the_model_does(name: str) -> None:
    """Prompts of up to 30 tokens look back further than the windows of 5; scores are large enough to be capped."""
    config, batching, implementation = CASES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():  # weights that a fresh model leaves at 0 or 1, and sharp attention
        parameter.data += 0.1 * torch.randn_like(parameter)
    pairs = random_pairs(1, shapes=SHAPES)
    expected = one_at_a_time(model, pairs)
    choice = choose_attention(model, "shared")
    assert (choice.batching, choice.implementation) == (batching, implementation)
    assert (choice.reason is None) == (batching == "shared")
    set_attention(model, choice.implementation)
    for pack in pack_pairs(pairs, range(len(pairs)), token_budget=10_000, batching=choice.batching):
        with torch.no_grad():
            found = pair_logps(model, pack)
        for place, index in enumerate(pack.pairs.tolist()):
            logps = (float(found.chosen_logps[place]), float(found.rejected_logps[place]))
            assert logps == pytest.approx(expected[index], abs=2e-4), index


def test_asking_leaves_the_model_as_it_was() -> None:
    model = AutoModelForCausalLM.from_config(CASES["mistral"][0], dtype=torch.float32)
    model.train()
    before = model.config._attn_implementation
    choose_attention(model, "shared")
    assert (model.training, model.config._attn_implementation, model.config.sliding_window) == (True, before, 5)


def test_padded_as_asked_needs_no_reason_and_keeps_every_term() -> None:
    model = AutoModelForCausalLM.from_config(CASES["gemma2, capped"][0], dtype=torch.float32)
    choice = choose_attention(model, "padded")
    assert (choice.batching, choice.implementation, choice.reason) == ("padded", "eager", None)


def test_packed_attention_refuses_a_term_that_it_does_not_compute() -> None:
    model = AutoModelForCausalLM.from_config(CASES["gemma2, capped"][0], dtype=torch.float32)
    set_attention(model, ATTENTION["shared"])
    (pack,) = pack_pairs(random_pairs(1, shapes=SHAPES[:1]), [0], token_budget=100)
    with pytest.raises(ModelError, match=r"terms that packing lacks: softcap \(set train.batching = 'padded'"):
        pair_logps(model, pack)
