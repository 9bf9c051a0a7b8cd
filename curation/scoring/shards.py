"""Work in shards: prompts in order, cut at a token budget, so that a killed run goes on at a shard's beginning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curation.scoring.policy import ReferencePolicy
from schemas.errors import TokenError
from schemas.tokens import EncodedGroup, encode_group, encode_groups, truncate_prompt_left

SHARD_TOKENS = {"cpu": 1 << 17, "cuda": 1 << 20}
"""Tokens of a shard by device: a second or so of a small model, so that little is lost and commits cost little."""

_ENCODE_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class PromptRow:
    """An unscored prompt of the lake.

    Attributes:
        messages: the conversation as canonical JSON.
        response_ids: responses that are not scored yet, in the lake's order.
        texts: their texts.
    """

    prompt_id: str
    messages: str
    response_ids: Sequence[str]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Item:
    """One response to score or to set aside.

    Attributes:
        group: number of its group in the shard; None where it is not scored.
        index: its place in the group.
        num_tokens: of the response.
        num_prompt_tokens: of its prompt, after cutting.
        is_truncated: prompt and response do not fit.
        error: why it cannot be tokenized, or None.
    """

    response_id: str
    group: int | None
    index: int
    num_tokens: int
    num_prompt_tokens: int
    is_truncated: bool = False
    error: str | None = None


@dataclass(slots=True)
class Shard:
    """Groups that are scored and committed together, with the items that they come from."""

    groups: list[EncodedGroup]
    items: list[Item]
    num_tokens: int = 0
    num_prompts: int = 0


def shards_of(rows: Iterable[PromptRow], policy: ReferencePolicy, *, shard_tokens: int) -> Iterator[Shard]:
    """Cut prompts into shards of at most ``shard_tokens`` unique tokens, greedily from the first one on.

    A shard's bounds depend only on the prompts from its first one on, so a run that goes on after a kill cuts the same
    shards and computes the same numbers.
    """
    shard = Shard([], [])
    for row, encoded in _encoded(rows, policy):
        size = 0 if isinstance(encoded, TokenError) else len(encoded.prompt_ids) + sum(map(len, encoded.response_ids))
        if shard.items and shard.num_tokens + size > shard_tokens:
            yield shard
            shard = Shard([], [])
        _add(shard, row, encoded, policy)
        shard.num_tokens += size
        shard.num_prompts += 1
    if shard.items:
        yield shard


def _encoded(
    rows: Iterable[PromptRow], policy: ReferencePolicy
) -> Iterator[tuple[PromptRow, EncodedGroup | TokenError]]:
    batch: list[PromptRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ENCODE_AT_ONCE:
            yield from zip(batch, _encode(batch, policy), strict=True)
            batch = []
    yield from zip(batch, _encode(batch, policy), strict=True)


def _encode(rows: Sequence[PromptRow], policy: ReferencePolicy) -> list[EncodedGroup | TokenError]:
    """All at once; where one conversation cannot be encoded, each on its own, so that only that one is set aside."""
    groups: list[tuple[Any, Sequence[str]]] = [(json.loads(row.messages), row.texts) for row in rows]
    try:
        return list(encode_groups(policy.tokenizer, groups, template=policy.template))
    except TokenError:
        return [_encode_one(policy, messages, texts) for messages, texts in groups]


def _encode_one(policy: ReferencePolicy, messages: Any, texts: Sequence[str]) -> EncodedGroup | TokenError:
    try:
        return encode_group(policy.tokenizer, messages, texts, template=policy.template)
    except TokenError as error:
        return error


def _add(shard: Shard, row: PromptRow, encoded: EncodedGroup | TokenError, policy: ReferencePolicy) -> None:
    if isinstance(encoded, TokenError):
        shard.items += [Item(name, None, 0, 0, 0, error=encoded.message) for name in row.response_ids]
        return
    prompt = encoded.prompt_ids
    fitting = EncodedGroup(prompt, [])
    main = len(shard.groups)
    if any(len(prompt) + len(ids) <= policy.max_length for ids in encoded.response_ids):
        shard.groups.append(fitting)
    for name, ids in zip(row.response_ids, encoded.response_ids, strict=True):
        if len(prompt) + len(ids) <= policy.max_length:
            shard.items.append(Item(name, main, len(fitting.response_ids), len(ids), len(prompt)))
            fitting.response_ids.append(ids)
            continue
        rest = truncate_prompt_left(prompt, ids, policy.max_length) if policy.truncate == "left" else None
        if rest is None:
            shard.items.append(Item(name, None, 0, len(ids), len(prompt), is_truncated=True))
        else:
            shard.items.append(Item(name, len(shard.groups), 0, len(ids), len(rest), is_truncated=True))
            shard.groups.append(EncodedGroup(rest, [ids]))
