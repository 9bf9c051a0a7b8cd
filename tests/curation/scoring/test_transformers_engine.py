"""The shared-prompt pass gives what one sequence at a time gives, in any order and with any grouping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, GptOssConfig, MistralConfig

from curation.scoring.packing import Row, batches_of, rows_of
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from curation.scoring.tree_attention import tree_attention
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import (
    encoded,
    every_response_alone,
    exact_logps,
    exactness_groups,
    fgrlhf_texts,
    hh_texts,
    oracle,
    tiny_policy,
    tiny_tokenizer,
    worst,
)

FLOAT32 = ScoringSettings(dtype="float32", batch_tokens=1024)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    made = TransformersEngine(tiny_policy(), FLOAT32)
    yield made
    made.close()


@pytest.mark.slow
def test_shared_prompts_give_what_one_sequence_at_a_time_gives(engine: TransformersEngine) -> None:
    groups = [*encoded(hh_texts(), 12), *encoded(fgrlhf_texts(), 2)]
    assert engine.info.path == "shared"
    assert worst(engine.score(groups), oracle(groups)) < 1e-3
    assert all(
        s.num_tokens == len(ids)
        for g, r in zip(groups, engine.score(groups), strict=True)
        for s, ids in zip(r, g.response_ids, strict=True)
    )


def test_order_and_grouping_do_not_matter(engine: TransformersEngine) -> None:
    groups = encoded(hh_texts(), 12)
    expected = [[score.logps for score in scores] for scores in engine.score(groups)]
    alone, values = every_response_alone(groups, expected, seed=0)
    assert worst(engine.score(alone), values) < 1e-3


def test_the_mask_hides_siblings_from_one_another(engine: TransformersEngine) -> None:
    (group,) = encoded(hh_texts(), 1)
    one, other = group.response_ids
    after_another = engine.score([EncodedGroup(group.prompt_ids, [other[::-1], one])])[0][1]
    assert after_another.logps == pytest.approx(engine.score([group])[0][0].logps, abs=1e-3)


@pytest.mark.slow
def test_a_mask_over_the_whole_row_says_the_same() -> None:
    groups = [*encoded(hh_texts(), 6), *encoded(fgrlhf_texts(), 1)]
    made = TransformersEngine(tiny_policy(), FLOAT32)
    expected = [[score.logps for score in scores] for scores in made.score(groups)]
    made._model.set_attn_implementation("sdpa")
    made._path = "masked"
    assert worst(made.score(groups), expected) < 1e-3


def test_what_lies_behind_a_shorter_row_never_matters(engine: TransformersEngine) -> None:
    groups = [EncodedGroup([7] * 30, [[8] * 20, [9] * 90]), EncodedGroup([7] * 10, [[8] * 3, [9] * 2])]
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        found = engine.score(groups)
    finally:
        torch.use_deterministic_algorithms(False)
    assert worst(found, oracle(groups)) < 1e-3


def test_attention_that_is_not_a_plain_softmax_is_refused() -> None:
    heads = torch.zeros(1, 1, 2, 4)
    with pytest.raises(EngineError, match="not a plain softmax"):
        tree_attention(torch.nn.Identity(), heads, heads, heads, None, num_first=2, softcap=50.0)
    with pytest.raises(EngineError, match="not a plain softmax"):
        tree_attention(torch.nn.Identity(), heads, heads, heads, None)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_all_of_the_exactness_set(path: str) -> None:
    made = TransformersEngine(tiny_policy(), FLOAT32)
    if path == "plain":
        made._model.set_attn_implementation("sdpa")
        made._path = path
    assert worst(made.score(exactness_groups()), exact_logps()) < 1e-3


def other_policy(folder: Path, config: Any) -> ReferencePolicy:
    """Random weights of another shape, with the small policy's tokenizer."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return open_policy(ScoringSettings(max_length=1024), str(folder))


SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.5,
}


def test_a_sliding_window_has_a_row_for_each_response(tmp_path: Path) -> None:
    policy = other_policy(tmp_path, MistralConfig(**SHAPE, sliding_window=16))
    groups = encoded(hh_texts(), 4)
    made = TransformersEngine(policy, FLOAT32)
    assert made.info.path == "plain"
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert worst(made.score(groups), oracle(groups, model)) < 1e-3


@pytest.mark.parametrize(
    "config",
    [
        GptOssConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2, layer_types=["full_attention"] * 2),
        BloomConfig(vocab_size=8192, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.5),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_model_with_attention_of_its_own_has_a_row_for_each_response(tmp_path: Path, config: Any) -> None:
    policy = other_policy(tmp_path, config)
    groups = encoded(hh_texts(), 4)
    made = TransformersEngine(policy, FLOAT32)
    assert made.info.path == "plain"
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert worst(made.score(groups), oracle(groups, model)) < 1e-3


def test_capped_attention_is_refused(tmp_path: Path) -> None:
    config = Gemma2Config(**SHAPE, attn_logit_softcapping=50.0, final_logit_softcapping=None)
    with pytest.raises(EngineError, match="caps its attention scores"):
        TransformersEngine(other_policy(tmp_path, config), FLOAT32)


@pytest.mark.slow
def test_a_small_budget_cuts_the_rows_of_siblings_too() -> None:
    (group,) = encoded(fgrlhf_texts(), 1)
    made = TransformersEngine(tiny_policy(), FLOAT32.model_copy(update={"batch_tokens": 64}))
    found = made.score([group])
    alone = sum(len(group.prompt_ids) + len(ids) for ids in group.response_ids)
    assert made.counts.num_computed == alone  # with each response its prompt: no row holds two
    assert worst(found, oracle([group])) < 1e-3


def test_prompts_are_computed_once(engine: TransformersEngine) -> None:
    groups = encoded(hh_texts(), 12)
    before = engine.counts.num_computed
    engine.score(groups)
    unique = sum(len(g.prompt_ids) + sum(map(len, g.response_ids)) for g in groups)
    assert engine.counts.num_computed - before == unique
    assert engine.counts.saving_realised > 0.5


def test_embeddings_are_of_the_last_token(engine: TransformersEngine) -> None:
    groups = encoded(hh_texts(), 2)
    made = TransformersEngine(tiny_policy(), FLOAT32.model_copy(update={"embeddings": True}))
    both = made.score(groups)
    alone = made.score([EncodedGroup(groups[0].prompt_ids, groups[0].response_ids[1:])])
    assert both[0][1].embedding is not None
    assert both[0][1].embedding.shape == (256,)
    assert both[0][1].embedding.tolist() == pytest.approx(alone[0][0].embedding.tolist(), abs=2e-2)
    assert both[0][0].embedding.tolist() != pytest.approx(both[0][1].embedding.tolist(), abs=2e-2)


def test_a_row_is_cut_where_it_would_grow_too_long() -> None:
    group = EncodedGroup([1] * 10, [[2] * 5, [2] * 5, [2] * 5])
    assert rows_of([group], max_row_tokens=20) == [Row(0, (0, 1), 20), Row(0, (2,), 15)]
    assert rows_of([group], max_row_tokens=3) == [Row(0, (0,), 15), Row(0, (1,), 15), Row(0, (2,), 15)]
    assert rows_of([group], max_row_tokens=99, is_shared=False) == rows_of([group], max_row_tokens=3)


def test_a_batch_counts_its_padding() -> None:
    rows = [Row(0, (0,), 10), Row(1, (0,), 4), Row(2, (0,), 4), Row(3, (0,), 4)]
    assert [len(batch) for batch in batches_of(rows, batch_tokens=20)] == [2, 2]
    assert [len(batch) for batch in batches_of(rows, batch_tokens=1)] == [1, 1, 1, 1]


def test_bfloat16_with_packed_weights_stays_near_float32() -> None:
    groups = encoded(hh_texts(), 6)
    made = TransformersEngine(tiny_policy(), ScoringSettings(dtype="bfloat16"))
    errors = [
        (score.logps - value) / score.num_tokens
        for scores, values in zip(made.score(groups), oracle(groups), strict=True)
        for score, value in zip(scores, values, strict=True)
    ]
    assert max(map(abs, errors)) < 0.03
    assert made.info.dtype == "bfloat16"
