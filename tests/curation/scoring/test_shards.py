"""Shards keep the order and the budget, start where a killed run stopped, and cut nothing in silence."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from curation.scoring.policy import ReferencePolicy
from curation.scoring.shards import PromptRow, Shard, shards_of
from schemas.identity import canonical_messages
from tests.curation.scoring.real_groups import hh_texts, tiny_policy


@cache
def policy() -> ReferencePolicy:
    return tiny_policy()


@cache
def rows() -> tuple[PromptRow, ...]:
    texts = [text for _, text in zip(range(20), hh_texts(), strict=False)]
    return tuple(
        PromptRow(f"p{number}", canonical_messages(messages), [f"{number}a", f"{number}b"], answers)
        for number, (messages, answers) in enumerate(texts)
    )


def cut(some: tuple[PromptRow, ...], shard_tokens: int, **changes: object) -> list[Shard]:
    return list(shards_of(some, replace(policy(), **changes), shard_tokens=shard_tokens))  # type: ignore[arg-type]


def test_every_response_is_in_one_shard_and_in_order() -> None:
    shards = cut(rows(), 900)
    assert len(shards) > 3
    assert [item.response_id for shard in shards for item in shard.items] == [
        name for row in rows() for name in row.response_ids
    ]
    assert all(shard.num_tokens <= 900 or shard.num_prompts == 1 for shard in shards)


def test_a_run_that_goes_on_cuts_the_same_shards() -> None:
    shards = cut(rows(), 900)
    done = shards[0].num_prompts + shards[1].num_prompts
    assert [shard.items for shard in cut(rows()[done:], 900)] == [shard.items for shard in shards[2:]]


def test_what_does_not_fit_has_no_group() -> None:
    (shard,) = cut(rows(), 10**6, max_length=120)
    assert any(item.is_truncated for item in shard.items)
    for item in shard.items:
        assert item.is_truncated == (item.group is None) == (item.num_prompt_tokens + item.num_tokens > 120)
    assert all(len(g.prompt_ids) + len(ids) <= 120 for g in shard.groups for ids in g.response_ids)


def test_truncate_left_keeps_the_prompts_last_tokens() -> None:
    (whole,) = cut(rows(), 10**6)
    (shard,) = cut(rows(), 10**6, max_length=120, truncate="left")
    for item, full in zip(shard.items, whole.items, strict=True):
        if item.is_truncated and item.group is not None:
            assert full.group is not None
            group, original = shard.groups[item.group], whole.groups[full.group]
            assert group.response_ids == [original.response_ids[full.index]]
            assert original.prompt_ids[-len(group.prompt_ids) :] == group.prompt_ids
            assert len(group.prompt_ids) + item.num_tokens == 120
    assert any(item.is_truncated and item.group is not None for item in shard.items)


def test_a_conversation_that_the_template_refuses_is_set_aside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = "{% if 'BAD' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = policy().tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", refuses + tokenizer.chat_template)
    bad = PromptRow("bad", canonical_messages([{"role": "user", "content": "BAD"}]), ["x"], ["y"])
    (shard,) = cut((rows()[0], bad, rows()[1]), 10**6)
    errors = {item.response_id: item.error for item in shard.items if item.error}
    assert list(errors) == ["x"]
    assert "does not take this conversation: no" in errors["x"]
    assert len(shard.groups) == 2
