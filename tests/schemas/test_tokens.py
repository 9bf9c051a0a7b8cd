"""A prompt and its responses become the tokens that the tokenizer's own chat template gives."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from schemas.errors import TokenError
from schemas.model_identity import PINNED_DATE, chat_template_hash
from schemas.tokens import Template, encode_group, encode_groups, plain_prompt, truncate_prompt_left
from tests.real_data import shared

TURN = "\n\nAssistant:"


@cache
def tiny_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(shared("models/tiny-en"))


def hh_groups(count: int) -> list[tuple[list[dict[str, str]], list[str]]]:
    """The first pairs of HH that agree before the last assistant turn, with at least a character in both answers."""
    groups = []
    with gzip.open(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            (head, chosen), (other, rejected) = (row[key].rsplit(TURN, 1) for key in ("chosen", "rejected"))
            if head == other and chosen.strip() and rejected.strip():
                prompt = [{"role": "user", "content": head.removeprefix("\n\nHuman: ")}]
                groups.append((prompt, [chosen.strip(), rejected.strip()]))
            if len(groups) == count:
                return groups
    raise AssertionError("too few pairs")


def merging_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """Single characters, and the merges a+b, x+y; <e> ends a turn."""
    vocab = {token: number for number, token in enumerate([*"abxyz ", "ab", "xy", "<e>"])}
    backend = Backend(models.BPE(vocab=vocab, merges=[("a", "b"), ("x", "y")]))
    backend.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>")
    tokenizer.chat_template = template
    return tokenizer


OPEN_BORDER = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<e>{% endif %}{% endfor %}"


def test_ids_are_those_of_the_tokenizers_own_chat_template() -> None:
    tokenizer = tiny_tokenizer()
    groups = hh_groups(200)
    for (prompt, responses), encoded in zip(groups, encode_groups(tokenizer, groups), strict=True):
        own = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert encoded.prompt_ids == own
        for response, ids in zip(responses, encoded.response_ids, strict=True):
            conversation = [*prompt, {"role": "assistant", "content": response}]
            whole = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
            assert encoded.prompt_ids + ids == whole


def test_chosen_and_rejected_have_the_same_tokens_up_to_their_first_difference() -> None:
    tokenizer = tiny_tokenizer()
    for prompt, (chosen, _) in hh_groups(100):
        cut = len(chosen) // 2
        one, other = encode_group(tokenizer, prompt, [chosen[:cut] + "\n\n1", chosen[:cut] + "\n\n2"]).response_ids
        assert one[:-2] == other[:-2]
        assert one[-2] != other[-2]
        assert one[-1] == other[-1] == tokenizer.eos_token_id


def test_many_groups_at_once_are_each_group_alone() -> None:
    tokenizer = tiny_tokenizer()
    groups = [*hh_groups(5), ([], ["a text without a prompt"])]
    assert encode_groups(tokenizer, groups) == [encode_group(tokenizer, *group) for group in groups]


def test_a_border_that_would_merge_is_cut_for_all_responses_of_the_prompt() -> None:
    tokenizer = merging_tokenizer(OPEN_BORDER)
    encoded = encode_group(tokenizer, [{"role": "user", "content": "za"}], ["bz", "zz"])
    assert tokenizer.convert_ids_to_tokens(encoded.prompt_ids) == ["z", "a"]  # and not z, as in z+ab
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in encoded.response_ids] == [
        ["b", "z", "<e>"],
        ["z", "z", "<e>"],
    ]


def test_the_tail_begins_at_the_last_added_token() -> None:
    tokenizer = merging_tokenizer(OPEN_BORDER)
    prompt = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "zx"},
    ]
    encoded = encode_group(tokenizer, prompt, ["z"])
    assert tokenizer.convert_ids_to_tokens(encoded.prompt_ids) == ["ab", "<e>", "z", "x"]
    assert tokenizer.convert_ids_to_tokens(encoded.response_ids[0]) == ["z", "<e>"]


def test_a_template_that_asks_for_the_date_always_gets_the_same_one() -> None:
    dated = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    pinned, undated = (AutoTokenizer.from_pretrained(shared("models/tiny-en")) for _ in range(2))
    pinned.chat_template = dated
    prompt = [{"role": "user", "content": "?"}]
    assert pinned.decode(encode_group(pinned, prompt, ["b"]).prompt_ids) == f"{PINNED_DATE.year}?"
    undated.chat_template = dated.replace("strftime_now('%Y')", "'x'")
    text_hash = hashlib.sha256(dated.encode()).hexdigest()
    assert chat_template_hash(pinned) != text_hash
    assert chat_template_hash(undated) == hashlib.sha256(undated.chat_template.encode()).hexdigest()


def test_a_template_that_cannot_be_used_is_an_error_with_a_mend() -> None:
    prompt = [{"role": "user", "content": "a"}]
    with pytest.raises(TokenError, match="has no chat template"):
        encode_group(merging_tokenizer(None), prompt, ["b"], template="chat")
    backwards = "{% if add_generation_prompt %}x{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(TokenError, match="as a prefix"):
        encode_group(merging_tokenizer(backwards), prompt, ["b"])
    with pytest.raises(TokenError, match="writes nothing for an answer"):
        encode_group(merging_tokenizer("{{ messages[0]['content'] }}"), prompt, ["b"])
    with pytest.raises(TokenError, match="does not take this conversation: no system"):
        encode_group(merging_tokenizer("{{ raise_exception('no system') }}"), prompt, ["b"])


@pytest.mark.parametrize("template", ["auto", "chat"])
def test_a_text_without_a_prompt_is_no_turn_of_a_chat(template: Template) -> None:
    tokenizer = tiny_tokenizer()
    plain = encode_group(tokenizer, [], ["Hello."], template="plain")
    assert encode_group(tokenizer, [], ["Hello."], template=template) == plain


def test_plain_text_is_framed_by_begin_and_end() -> None:
    tokenizer = tiny_tokenizer()
    encoded = encode_group(tokenizer, [], ["Hello."], template="plain")
    assert encoded.prompt_ids == [tokenizer.bos_token_id]
    assert encoded.response_ids[0][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.response_ids[0][:-1]) == "Hello."


def test_several_plain_turns_are_a_transcript() -> None:
    turns = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Yes?"), ("user", "Go"))]
    assert plain_prompt(turns) == "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Go\n\nAssistant:"
    with pytest.raises(TokenError, match="role 'tool'"):
        plain_prompt([*turns, {"role": "tool", "content": "1"}])


def test_the_prompt_is_cut_from_the_left_and_the_response_never() -> None:
    assert truncate_prompt_left([1, 2, 3], [4, 5], 4) == [2, 3]
    assert truncate_prompt_left([1, 2, 3], [4, 5], 9) == [1, 2, 3]
    assert truncate_prompt_left([1, 2, 3], [4, 5], 2) is None
