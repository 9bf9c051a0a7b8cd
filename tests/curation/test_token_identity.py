"""Pairs that a trainer sees as one: identical tokens after the cut."""

from __future__ import annotations

import json

import polars as pl
import pytest
from transformers import AutoTokenizer

from curation.token_identity import token_identity
from schemas.tokens import Tokenizer, encode_group
from tests.real_data import shared


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return AutoTokenizer.from_pretrained(shared("models/tiny-en"))


def identical(tokenizer: Tokenizer, x: str, y: str, max_length: int, prompt: str = "Where is the harbour?") -> bool:
    prompts = pl.DataFrame({"prompt_id": ["p"], "messages": [json.dumps([{"role": "user", "content": prompt}])]})
    responses = pl.DataFrame({"response_id": ["x", "y"], "prompt_id": ["p", "p"], "text": [x, y]})
    pairs = pl.DataFrame({"pair_id": ["q"], "response_x_id": ["y"], "response_y_id": ["x"]})
    found = token_identity(pairs, responses, prompts, tokenizer, max_length=max_length)
    assert found.columns == ["pair_id", "is_token_identical"]
    return bool(found["is_token_identical"].item())


def test_the_cut_decides(tokenizer: Tokenizer) -> None:
    start = "It lies to the west of the old town, behind the market"
    x, y = f"{start} and the church.", f"{start}, not far from here."
    prompt = [{"role": "user", "content": "Where is the harbour?"}]
    group = encode_group(tokenizer, prompt, [x, y])
    first, second = group.response_ids
    shared_tokens = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    limit = len(group.prompt_ids) + shared_tokens
    assert identical(tokenizer, x, y, limit)
    assert not identical(tokenizer, x, y, limit + 1)
    assert not identical(tokenizer, x, y, 4096)


def test_a_response_that_only_ends_earlier_differs(tokenizer: Tokenizer) -> None:
    """The end of turn is a token of the response."""
    assert not identical(tokenizer, "Yes, it is.", "Yes, it is. Really.", 512)


def test_a_prompt_that_fills_the_length_leaves_no_difference(tokenizer: Tokenizer) -> None:
    assert identical(tokenizer, "Yes.", "No.", 64, prompt="Tell me about the harbour of the old town. " * 40)
    assert not identical(tokenizer, "Yes.", "No.", 1024, prompt="Tell me about the harbour of the old town. " * 40)


def test_equal_texts_are_identical_at_any_length(tokenizer: Tokenizer) -> None:
    assert identical(tokenizer, "Yes.", "Yes.", 4096)


def test_a_text_with_a_token_a_byte_is_not_ruled_out(tokenizer: Tokenizer) -> None:
    x, y = ("\U0001f701" * 60 + end for end in "ab")
    group = encode_group(tokenizer, [{"role": "user", "content": "?"}], [x, y])
    limit = len(group.prompt_ids) + len(group.response_ids[0]) - 2
    assert limit > 200
    assert identical(tokenizer, x, y, limit, prompt="?")
    assert not identical(tokenizer, x, y, limit + 1, prompt="?")


def test_what_is_ruled_out_without_tokens_is_not_identical(tokenizer: Tokenizer) -> None:
    """The shortcut by bytes agrees with tokenizing every pair, at every length around the texts' own."""
    texts = ["a", "a b", "It lies to the west.", "It lies to the east.", "naïve café 漢字", "  a"]
    prompt = [{"role": "user", "content": "Where is the harbour?"}]
    group = encode_group(tokenizer, prompt, texts)
    for max_length in range(2, 60):
        room = max(max_length - len(group.prompt_ids), 0)
        cut = [ids[:room] for ids in group.response_ids]
        for i, x in enumerate(texts):
            for j in range(i):
                assert identical(tokenizer, x, texts[j], max_length) == (cut[i] == cut[j]), (x, texts[j], max_length)
