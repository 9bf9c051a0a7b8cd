"""Text flags on hand-written answers, and the similarity of pairs."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.languages import languages
from curation.shingles import jaccard, shingle_sets, word_shingles
from curation.text_features import pair_features, prompt_texts, response_features


def flags(text: str, prompt: str = "Where is the harbour of the old town?") -> dict[str, object]:
    prompts = pl.DataFrame({"prompt_id": ["p"], "messages": [json.dumps([{"role": "user", "content": prompt}])]})
    responses = pl.DataFrame({"response_id": ["r"], "prompt_id": ["p"], "text": [text]})
    return response_features(responses, prompts).row(0, named=True)


def similarity(x: str, y: str) -> dict[str, object]:
    responses = pl.DataFrame({"response_id": ["x", "y"], "prompt_id": ["p", "p"], "text": [x, y]})
    pairs = pl.DataFrame({"pair_id": ["q"], "response_x_id": ["y"], "response_y_id": ["x"]})
    return pair_features(pairs, responses).row(0, named=True)


@pytest.mark.parametrize(
    "text",
    [
        "I’m sorry, but I can’t help you with that question.",
        "I am unable to answer this.",
        "As an AI language model, I do not have personal opinions.",
        "That goes against my guidelines, so no.",
        "I'm not going to help you to commit a crime.",
        "I’m sorry, I’m not allowed to share that kind of information.",
        "I won't give you any information about that.",
        "I can't recommend that you do this.",
    ],
)
def test_a_refusal_is_seen(text: str) -> None:
    assert flags(text)["is_refusal"] is True


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that. Here is what helps.",
        "You can't park there, but I can help.",
        "I’m sorry, what?",
        "",
        "I can't recommend it highly enough.",
        "I cannot recommend this little place at the harbour enough!",
        "I will not give up.",
        "I won't give in to fear.",
        "I'm not going to the store.",
        "I'm not able to sleep, so I read.",
        "I'm not allowed to eat gluten.",
        "I can't help but wonder who did it.",
        "I can't help laughing at that.",
    ],
)
def test_an_apology_or_an_idiom_is_no_refusal(text: str) -> None:
    assert flags(text)["is_refusal"] is False


def test_emptiness_and_length() -> None:
    assert flags(" \n\t ")["is_empty"] is True
    assert flags("no")["is_empty"] is False
    assert flags("näher 漢")["num_chars"] == 7


def test_a_text_that_stops_in_the_middle() -> None:
    prose = "The harbour lies to the west of the town. It was built by fishermen in the year 1840"
    assert flags(prose + " and then the")["is_cut_off"] is True
    assert flags(prose + ".")["is_cut_off"] is False
    assert flags(prose + '."')["is_cut_off"] is False
    assert flags("Run this:\n```python\nprint(1)")["is_cut_off"] is True
    assert flags("Run this:\n```python\nprint(1)\n```")["is_cut_off"] is False
    assert (
        flags("Here is a list. It has two items that matter most to the people:\n- bread\n- milk")["is_cut_off"]
        is False
    )


SENTENCES = {
    "en": "This is one of the things that you can do with it, and it was not hard.",
    "de": "Das ist nicht das, was ich mir von der Reise und dem Hotel erwartet habe.",
    "fr": "Je ne sais pas si cette question est dans les pages que vous avez lues.",
    "es": "No sé lo que pasa con los niños, pero están muy contentos en el parque.",
    "ru": "Я не знаю, что это такое, но мне нравится.",
    "uk": "Я не знаю, що це таке, але мені подобається її голос.",
    "zh": "我不知道这是什么意思，但是我很喜欢。",
    "ja": "これは何ですか。漢字が読めません。",
    "ko": "이것은 무엇입니까? 잘 모르겠습니다.",
    "ar": "لا أعرف ما هذا ولكنني أحبه كثيرا",
    "el": "Δεν ξέρω τι είναι αυτό.",
}


def test_languages_of_plain_sentences() -> None:
    assert dict(zip(SENTENCES, languages(pl.Series(list(SENTENCES.values()))), strict=True)) == {
        k: k for k in SENTENCES
    }


def test_an_unclear_language_is_null() -> None:
    assert (
        languages(pl.Series(["", "42", "Nancy Pelosi", "OK ok", "Sandra.Peters@example.com"])).to_list() == [None] * 5
    )


def test_language_mismatch() -> None:
    assert flags(SENTENCES["de"])["is_language_mismatch"] is True
    assert flags(SENTENCES["en"])["is_language_mismatch"] is False
    assert flags("Westwards.")["is_language_mismatch"] is None
    assert flags(SENTENCES["en"], prompt="42?")["is_language_mismatch"] is None


def test_similarity_by_hand() -> None:
    """The shingles of two words: "a b", "b c", "c d" against "a b", "b c", "c e": two shared of four."""
    assert similarity("a b c d", "A  b, c e!") == {
        "pair_id": "q",
        "is_identical": False,
        "response_similarity": 0.5,
        "is_near_identical": False,
    }


def test_identical_up_to_white_space() -> None:
    assert similarity("One  two\nthree ", "One two three")["is_identical"] is True
    assert similarity("", " ")["response_similarity"] == 1.0
    assert similarity("", "a")["response_similarity"] == 0.0
    assert similarity("Yes!", "yes")["is_identical"] is False
    assert similarity("Yes!", "yes")["is_near_identical"] is True


def test_one_changed_word_in_twenty_is_near_identical() -> None:
    words = [f"w{i}" for i in range(20)]
    changed = [*words[:9], "other", *words[10:]]
    assert similarity(" ".join(words), " ".join(changed))["response_similarity"] == pytest.approx(17 / 21)
    assert similarity(" ".join(words), " ".join(changed))["is_near_identical"] is True


def test_a_shingle_counts_once() -> None:
    """ "a b" and "b a" against "a b"."""
    assert similarity("a b a b", "a b")["response_similarity"] == 0.5


def test_pairs_of_several_prompts_in_any_order() -> None:
    texts = {"b1": "one two", "a1": "red green", "c1": "old new", "b2": "one two", "a2": "red blue", "c2": "old new x"}
    responses = pl.DataFrame(
        {"response_id": list(texts), "prompt_id": [name[0] for name in texts], "text": list(texts.values())}
    )
    pairs = pl.DataFrame({"pair_id": list("cab")}).with_columns(
        response_x_id=pl.col("pair_id") + "1", response_y_id=pl.col("pair_id") + "2"
    )
    assert pair_features(pairs, responses).select("pair_id", "response_similarity").rows() == [
        ("a", 0.0),
        ("b", 1.0),
        ("c", 0.5),
    ]


def test_a_pair_without_its_response_is_refused() -> None:
    responses = pl.DataFrame({"response_id": ["x"], "prompt_id": ["p"], "text": ["a"]})
    pairs = pl.DataFrame({"pair_id": ["q"], "response_x_id": ["x"], "response_y_id": ["y"]})
    with pytest.raises(ValueError, match="not among the responses"):
        pair_features(pairs, responses)


def test_no_rows() -> None:
    responses = pl.DataFrame(schema={"response_id": pl.String, "prompt_id": pl.String, "text": pl.String})
    prompts = pl.DataFrame(schema={"prompt_id": pl.String, "messages": pl.String})
    pairs = pl.DataFrame(schema={"pair_id": pl.String, "response_x_id": pl.String, "response_y_id": pl.String})
    assert response_features(responses, prompts).is_empty()
    assert pair_features(pairs, responses).is_empty()


def test_prompt_texts_joins_the_turns() -> None:
    messages = json.dumps([{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}])
    prompts = pl.DataFrame({"prompt_id": ["p", "q"], "messages": [messages, "[]"]})
    assert prompt_texts(prompts).rows() == [("p", "One?\nTwo."), ("q", "")]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "don't", "漢"]), max_size=8)


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 4))
def test_shingles_equal_those_made_in_python(texts: list[list[str]], width: int) -> None:
    def sets(words: list[str]) -> set[tuple[str, ...]]:
        if 0 < len(words) < width:
            return {tuple(words)}
        return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}

    matrix = shingle_sets(word_shingles(pl.Series([" ".join(words) for words in texts], dtype=pl.String), width))
    plain = [sets(words) for words in texts]
    for i, left in enumerate(plain):
        for j, right in enumerate(plain):
            expected = len(left & right) / len(left | right) if left | right else 0.0
            assert jaccard(matrix, *(pl.Series([k]).to_numpy() for k in (i, j)))[0] == pytest.approx(expected)
