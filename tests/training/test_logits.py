"""What a model does to its logits behind the head is known, or the model is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from schemas.errors import ModelError
from tests.training.test_attention_choice import one_at_a_time
from tests.training.test_packing import SHAPES, SMALL, random_pairs
from training.logits import check_logits
from training.packing import pack_pairs
from training.policy import pair_logps, set_attention

KNOWN: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**SMALL),
    "cohere, scaled": transformers.CohereConfig(**SMALL, logit_scale=0.3),
    "granite, divided": transformers.GraniteConfig(**SMALL, logits_scaling=4.0),
    "gemma 2, capped": transformers.Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0),
    "recurrent gemma, capped under another name": transformers.RecurrentGemmaConfig(**SMALL, logits_soft_cap=2.0),
    "mixtral, with its routers' loss": transformers.MixtralConfig(
        **SMALL, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_log_probs_are_those_of_the_models_own_logits(name: str) -> None:
    torch.manual_seed(0)
    config = KNOWN[name]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    check_logits(model)
    pairs, before = random_pairs(1, shapes=SHAPES[:3]), config.to_dict()
    expected = one_at_a_time(model, pairs)
    set_attention(model, "eager")
    (pack,) = pack_pairs(pairs, range(3), token_budget=10_000, batching="padded")
    with torch.no_grad():
        found = pair_logps(model, pack)
    assert model.config.to_dict() == before
    for index, (chosen, rejected) in enumerate(expected):
        assert float(found.chosen_logps[index]) == pytest.approx(chosen, abs=2e-4)
        assert float(found.rejected_logps[index]) == pytest.approx(rejected, abs=2e-4)


def test_logits_changed_in_an_unknown_way_are_refused() -> None:
    """HyperCLOVA X multiplies by what others divide by."""
    config = transformers.HyperCLOVAXConfig(**SMALL, logits_scaling=0.5)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with pytest.raises(ModelError, match="HyperCLOVAXForCausalLM changes what its LM head returns"):
        check_logits(model)
