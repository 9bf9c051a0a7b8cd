"""Near-duplicates on hand-made texts, and against brute force."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.near_duplicates import THRESHOLD, near_duplicate_groups
from tests.benchmarks.near_duplicates import brute_force_groups, generated_texts, pairs_together


def items(texts: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(texts), "text": list(texts.values())}, schema_overrides={"text": pl.String})


def sentence(seed: int, length: int = 40) -> list[str]:
    rng = random.Random(seed)
    words = ["red", "green", "blue", "old", "young", "swift", "slow", "harbour", "town", "river", "bread", "milk"]
    return rng.choices(words, k=length)


def test_a_chain_of_near_duplicates_is_one_group() -> None:
    words = [f"w{i}" for i in range(60)]
    second, third = words.copy(), words.copy()
    second[10:12] = ["x", "y"]
    third[10:12], third[30:34] = ["x", "y"], ["p", "q", "r", "s"]
    texts = {"c": " ".join(words), "b": " ".join(second), "a": " ".join(third), "other": "nothing like it at all"}
    # a and b share 54 of 64 shingles, b and c 56 of 62, a and c only 51 of 67
    assert near_duplicate_groups(items(texts), threshold=0.86)["item_id"].to_list() == ["b", "c"]
    assert near_duplicate_groups(items({k: texts[k] for k in ("a", "c")})).is_empty()
    assert near_duplicate_groups(items(texts), "prompt").rows() == [
        ("prompt", "a", "a"),
        ("prompt", "b", "a"),
        ("prompt", "c", "a"),
    ]


def test_the_threshold_is_met_exactly() -> None:
    """Eight of ten shingles."""
    words = [f"w{i}" for i in range(10)]
    texts = items({"a": " ".join(words), "b": " ".join([*words[:9], "other"])})
    assert near_duplicate_groups(texts, threshold=8 / 10).height == 2
    assert near_duplicate_groups(texts, threshold=8 / 10 + 1e-9).height == 0


def test_case_space_and_punctuation_do_not_count() -> None:
    found = near_duplicate_groups(items({"a": "Good morning, Ann!", "b": "good  morning ann", "c": "good evening ann"}))
    assert found["item_id"].to_list() == ["a", "b"]


def test_texts_without_words_have_no_near_duplicates() -> None:
    assert near_duplicate_groups(items({"a": "", "b": "", "c": " ?! ", "d": "?!"})).is_empty()
    assert near_duplicate_groups(items({})).is_empty()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x + y = 3", "x - y = 3"),
        ("x * y = 3", "x + y = 3"),
        ("1/2", "1 2"),
        ("5", "-5"),
        ("the answer is (5)", "the answer is (-5)"),
        ("f(x) >= 2", "f(x) <= 2"),
        ("f(x) > 2", "f(x) >= 2"),
        ("It costs $5 today", "It costs €5 today"),
        ("great 👍", "great 👎"),
    ],
)
def test_symbols_count(one: str, other: str) -> None:
    assert near_duplicate_groups(items({"a": one, "b": other})).is_empty()
    assert near_duplicate_groups(items({"a": one, "b": one})).height == 2


def test_texts_of_symbols_alone_have_near_duplicates() -> None:
    found = near_duplicate_groups(items({"a": "👍🎉", "b": "👍 🎉", "c": "👎"}))
    assert found["item_id"].to_list() == ["a", "b"]


def test_hyphens_bullets_and_emphasis_do_not_count() -> None:
    plain = "A well known list of\n red apples\n and `green` pears"
    marked = "A **well-known** list of\n- red apples\n- and green pears"
    assert near_duplicate_groups(items({"a": plain, "b": marked})).height == 2


def test_many_copies_of_one_text_are_one_group() -> None:
    texts = {f"{i:05d}": "the same answer again and again" for i in range(5_000)}
    assert near_duplicate_groups(items(texts))["group_id"].unique().to_list() == ["00000"]


def test_a_crowd_that_shares_a_band_is_still_sorted_out() -> None:
    """A thousand texts with one long beginning, too alike for some bands, in 500 pairs of near-duplicates."""
    beginning = [f"start{i}" for i in range(60)]
    texts = {}
    for pair in range(500):
        ending = [f"p{pair}w{i}" for i in range(40)]
        texts[f"{pair:03d}a"] = " ".join(beginning + ending)
        texts[f"{pair:03d}b"] = " ".join([*beginning, *ending[:-1], "else"])
    found = near_duplicate_groups(items(texts))
    assert found.filter(pl.col("item_id").str.slice(0, 3) != pl.col("group_id").str.slice(0, 3)).is_empty()
    assert len(found) >= 0.95 * len(texts)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)))
def test_order_does_not_matter(order: list[int]) -> None:
    texts = [sentence(seed) for seed in range(6)]
    texts += [[*words[:20], "other", *words[21:]] for words in texts]
    frame = items({f"{i:02d}": " ".join(words) for i, words in enumerate(texts)})
    assert near_duplicate_groups(frame[order]).equals(near_duplicate_groups(frame))


@pytest.mark.parametrize("num_texts", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_precision_and_recall_against_brute_force(num_texts: int) -> None:
    texts = generated_texts(num_texts, 60)
    true = pairs_together(brute_force_groups(texts, THRESHOLD))
    found = pairs_together(near_duplicate_groups(texts))
    assert len(true) > num_texts / 20
    assert len(true & found) >= 0.95 * len(found)
    assert len(true & found) >= 0.95 * len(true)
