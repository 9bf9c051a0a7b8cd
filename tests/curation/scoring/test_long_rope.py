"""A LongRoPE model is scored with one set of factors, whatever is scored beside it, the same on every engine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, Phi3Config

from curation.scoring.engines import open_engine
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.server_engine import check_factors
from curation.scoring.settings import EngineName, ScoringSettings
from schemas.errors import EngineError
from schemas.long_rope import original_length
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import encoded, hh_texts, tiny_tokenizer, worst

ORIGINAL, LIMIT = 128, 1024
FACTORS = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": ORIGINAL,
    "short_factor": [1 + 0.05 * number for number in range(16)],
    "long_factor": [2 + 0.5 * number for number in range(16)],
}


def save_model(folder: Path, vocab_size: int) -> None:
    """Random weights of Phi-3's shape, small."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LIMIT,
        original_max_position_embeddings=ORIGINAL,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        rope_parameters=FACTORS,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long_rope")
    save_model(path, 8192)
    tiny_tokenizer().save_pretrained(path)
    return path


def policy_of(folder: Path, max_length: int | None) -> ReferencePolicy:
    return open_policy(ScoringSettings(max_length=max_length), str(folder))


def groups_of(policy: ReferencePolicy) -> list[EncodedGroup]:
    groups = encoded(hh_texts(), 30)
    return [g for g in groups if len(g.prompt_ids) + max(map(len, g.response_ids)) <= policy.max_length]


def alone(folder: Path, groups: list[EncodedGroup], factors: str) -> list[list[float]]:
    """One sequence at a time, with one of the two sets."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scaling = model.config.rope_parameters
    with torch.inference_mode():
        rotary = model.model.rotary_emb
        sizes = torch.tensor(scaling[factors]) * 10_000.0 ** (torch.arange(0, 32, 2) / 32)
        rotary.rope_type = "fixed"
        rotary.inv_freq = 1 / sizes
        return [[float(_logps(model, group.prompt_ids, ids)) for ids in group.response_ids] for group in groups]


def _logps(model: Any, prompt: list[int], ids: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()


ENGINES = [
    ("transformers", "auto"),
    pytest.param("vllm", "pooling", marks=pytest.mark.vllm),
    pytest.param("vllm", "flat", marks=pytest.mark.vllm),
]


@pytest.mark.parametrize(("engine", "path"), ENGINES)
@pytest.mark.parametrize(
    ("asked", "factors"), [(None, "short_factor"), (ORIGINAL, "long_factor"), (LIMIT, "long_factor")]
)
def test_every_sequence_has_the_factors_of_the_longest_that_may_come(
    folder: Path, asked: int | None, factors: str, engine: EngineName, path: Any
) -> None:
    policy = policy_of(folder, asked)
    groups = groups_of(policy)
    settings = ScoringSettings(dtype="float32", vllm_path=path)
    with closing(open_engine(engine, policy, settings)) as opened:
        assert worst(opened.score(groups), alone(folder, groups, factors)) < 1e-3


def test_without_a_length_the_short_factors_do(folder: Path) -> None:
    assert policy_of(folder, None).max_length == ORIGINAL - 1


@pytest.mark.parametrize(
    "config",
    [
        {"rope_parameters": FACTORS},
        {"rope_scaling": {"type": "su"}, "original_max_position_embeddings": ORIGINAL},
        {"text_config": {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": ORIGINAL}},
    ],
)
def test_every_way_of_writing_it_is_read(config: dict[str, Any]) -> None:
    assert original_length(config) == ORIGINAL


@pytest.mark.parametrize("config", [{}, {"rope_scaling": None}, {"rope_scaling": {"rope_type": "linear"}}])
def test_other_models_have_one_set(config: dict[str, Any]) -> None:
    assert original_length(config) is None


@pytest.mark.parametrize(("max_length", "limit"), [(127, 129), (127, 1024), (128, 128)])
def test_a_server_with_the_other_set_is_refused(max_length: int, limit: int) -> None:
    policy = cast(ReferencePolicy, SimpleNamespace(max_length=max_length, original_length=ORIGINAL))
    with pytest.raises(EngineError, match="different ones"):
        check_factors(policy, limit)


@pytest.mark.parametrize(("max_length", "limit"), [(127, 128), (128, 129), (500, 1024)])
def test_a_server_with_the_same_set_scores(max_length: int, limit: int) -> None:
    check_factors(cast(ReferencePolicy, SimpleNamespace(max_length=max_length, original_length=ORIGINAL)), limit)
