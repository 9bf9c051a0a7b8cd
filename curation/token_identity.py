"""Pairs whose two responses are the same tokens once the conversation is cut at the trainer's length.

A trainer that cuts on the right sees no preference in such a pair: its loss is log 2 whatever the policy does. Most
pairs cannot be one, and that shows without a tokenizer: their texts differ, and even byte by byte they fit.
"""

from __future__ import annotations

import json

import polars as pl

from curation.text_features import plain_text
from schemas.tokens import EncodedGroup, Template, Tokenizer, encode_group, encode_groups

_CHUNK_PROMPTS = 2_000
_BYTES_OF_A_MESSAGE = 16  # a role's name, which plain prompts write as text


def token_identity(
    pairs: pl.DataFrame,
    responses: pl.DataFrame,
    prompts: pl.DataFrame,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    template: Template = "auto",
) -> pl.DataFrame:
    """Which pairs are the same tokens within ``max_length``.

    Args:
        pairs: ``pair_id``, ``response_x_id``, ``response_y_id``.
        responses: ``response_id``, ``prompt_id``, ``text``; every response of the pairs.
        prompts: ``prompt_id``, ``messages`` (canonical JSON).
        tokenizer: of the policy that is trained.
        max_length: tokens of prompt and response that the trainer keeps, counted from the beginning.
        template: as for :func:`schemas.tokens.encode_groups`.

    Returns:
        ``pair_id``, ``is_token_identical``, in the order of ``pairs``. Also true where the prompt alone fills
        ``max_length``.

    Raises:
        TokenError: a conversation cannot be tokenized.
    """
    texts = responses.select("response_id", "text")
    located = (
        pairs.select("pair_id", "response_x_id", "response_y_id")
        .join(responses.select(response_x_id="response_id", prompt_id="prompt_id", x="text"), on="response_x_id")
        .join(texts.rename({"response_id": "response_y_id", "text": "y"}), on="response_y_id")
        .join(prompts.select("prompt_id", "messages"), on="prompt_id")
    )
    doubtful = located.filter(_may_be_identical(max_length, _overhead(tokenizer, template)))
    same: list[str] = []
    by_prompt = doubtful.group_by("messages", maintain_order=True).agg("pair_id", "x", "y")
    for chunk in by_prompt.iter_slices(_CHUNK_PROMPTS):
        groups = [(json.loads(messages), [*x, *y]) for messages, _, x, y in chunk.iter_rows()]
        encoded = encode_groups(tokenizer, groups, template=template)
        for group, pair_ids in zip(encoded, chunk["pair_id"].to_list(), strict=True):
            same += [pair_id for pair_id, is_same in zip(pair_ids, _same(group, max_length), strict=True) if is_same]
    return pairs.select("pair_id", is_token_identical=pl.col("pair_id").is_in(same))


def _overhead(tokenizer: Tokenizer, template: Template) -> int:
    """Tokens that the template adds to a message at most: those of a conversation of two empty ones."""
    empty = encode_group(tokenizer, [{"role": "user", "content": ""}], [""], template=template)
    return len(empty.prompt_ids) + len(empty.response_ids[0])


def _may_be_identical(max_length: int, overhead: int) -> pl.Expr:
    """Texts that differ in white space at most, or are long enough to be cut: a token has at least one byte."""
    is_alike = plain_text(pl.col("x")) == plain_text(pl.col("y"))
    num_messages = pl.col("messages").str.count_matches('"role":', literal=True) + 1
    shorter = pl.min_horizontal(pl.col("x").str.len_bytes(), pl.col("y").str.len_bytes())
    most_tokens = pl.col("messages").str.len_bytes() + shorter + num_messages * (overhead + _BYTES_OF_A_MESSAGE)
    return is_alike | (most_tokens >= max_length)


def _same(group: EncodedGroup, max_length: int) -> list[bool]:
    """Of a prompt with the first responses of its pairs and then the second ones: whether each pair is the same."""
    room = max(max_length - len(group.prompt_ids), 0)
    cut = [ids[:room] for ids in group.response_ids]
    half = len(cut) // 2
    return [x == y for x, y in zip(cut[:half], cut[half:], strict=True)]
