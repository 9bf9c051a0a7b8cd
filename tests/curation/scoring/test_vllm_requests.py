"""What the prefix cache will keep from a request is foreseen, and never trusted afterwards."""

from __future__ import annotations

import math

from curation.scoring.vllm_requests import Request, Served, requests_of, settle
from schemas.tokens import EncodedGroup

BLOCK = 4


def test_siblings_that_part_inside_the_prompts_last_block_need_nothing() -> None:
    first, second = requests_of([EncodedGroup([1] * 5, [[2, 3], [4, 3]])], block_size=BLOCK)
    assert (first.start, second.start) == (4, 4)
    assert not first.points
    assert second.source is None
    assert not second.is_uncached


def test_a_prompt_of_whole_blocks_loses_the_first_token_and_lends_it_from_the_sibling() -> None:
    """8 tokens are 2 blocks: row 7, which predicts the answer's first token, will come from the cache."""
    first, second = requests_of([EncodedGroup([1] * 8, [[2, 3], [4, 3]])], block_size=BLOCK)
    assert first.points == [(7, 4)]
    assert second.source == (0, 0)
    assert second.num_borrowed == 1


def test_answers_that_begin_alike_lose_every_row_of_the_shared_block() -> None:
    """6 + 3 shared tokens reach past block 2, so rows 5, 6 and 7 are lost: two shared tokens and the third one."""
    first, second = requests_of([EncodedGroup([1] * 6, [[2, 3, 4, 5], [2, 3, 4, 9]])], block_size=BLOCK)
    assert first.points == [(5, 2), (6, 3), (7, 4)]
    assert second.num_borrowed == 3


def test_the_last_token_is_always_computed() -> None:
    """An answer that is the beginning of its sibling: vLLM computes at least its last token."""
    _, second = requests_of([EncodedGroup([1] * 4, [[2, 3, 4, 5, 6], [2, 3, 4, 5]])], block_size=BLOCK)
    assert second.num_borrowed == 1  # 7 of its 8 tokens can be cached, which is one whole block: rows 0 to 3


def test_a_sibling_that_lost_rows_itself_lends_none() -> None:
    group = EncodedGroup([1] * 8, [[2, 3], [4, 5, 6, 7, 8], [4, 5, 6, 7, 9]])
    requests = requests_of([group], block_size=BLOCK)
    assert requests[1].source == (0, 0)
    assert requests[2].is_uncached


def test_without_a_cache_every_request_computes_its_prompt() -> None:
    requests = requests_of([EncodedGroup([1] * 8, [[2], [3]])], block_size=0)
    assert [request.is_uncached for request in requests] == [True, True]


def served(first_row: int, logps: float, points: list[float] | None = None) -> Served:
    return Served(first_row, logps, points or [], first_row)


def test_lent_rows_are_added_and_only_those_that_are_missing() -> None:
    requests = [
        Request(0, 0, 5, [2, 3, 4], points=[(5, 2), (6, 9)]),
        Request(0, 1, 5, [2, 9, 9], source=(0, 0), num_borrowed=2),
    ]
    assert settle(requests, [served(0, -6.0, [-1.0, -2.0]), served(7, -4.0)]) == [-6.0, -7.0]
    assert settle(requests, [served(0, -6.0, [-1.0, -2.0]), served(6, -4.0)]) == [-6.0, -5.0]
    assert settle(requests, [served(0, -6.0, [-1.0, -2.0]), served(5, -4.0)]) == [-6.0, -4.0]


def test_more_cache_than_foreseen_is_asked_for_again() -> None:
    plain = [Request(0, 0, 5, [2, 3, 4])]
    assert settle(plain, [served(6, -4.0)]) == [None]
    lender = Request(0, 0, 5, [2], points=[(5, 2)])
    lent = [lender, Request(0, 1, 5, [3, 4], source=(0, 0), num_borrowed=1)]
    assert settle(lent, [served(5, -1.0, [-1.0]), served(7, -4.0)]) == [-1.0, None]
    assert settle(lent, [served(6, 0.0, [math.nan]), served(6, -4.0)]) == [None, None]
