"""One bad response is found and set aside, and too little memory halves the batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from curation.scoring.engine import EngineInfo, ResponseScore, TokenCounts
from curation.scoring.isolation import BrokenEngineError, Failure, PatientScorer
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup

POISON, NAN, HUGE = 666, 667, 668


class Frail:
    """Scores a response by the sum of its tokens, fails on POISON, has memory for ``room``, and NAN spoils siblings."""

    info = EngineInfo("frail", "none", "1", "float32", None, "cpu")
    max_length = 1000

    def __init__(self, settings: ScoringSettings, room: int) -> None:
        self.batch_tokens = settings.batch_tokens or 1024
        self.room = room
        self.counts = TokenCounts()

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        if self.batch_tokens > self.room or any(HUGE in ids for group in groups for ids in group.response_ids):
            raise torch.OutOfMemoryError("out of memory")
        if any(POISON in ids for group in groups for ids in group.response_ids):
            raise RuntimeError("assertion in a kernel")
        self.counts.add_groups(
            groups, num_computed=sum(len(g.prompt_ids) + sum(map(len, g.response_ids)) for g in groups)
        )
        score = [[ResponseScore(-float(sum(ids)), len(ids)) for ids in group.response_ids] for group in groups]
        return [
            [replace(s, logps=float("nan")) for s in scores] if any(NAN in ids for ids in g.response_ids) else scores
            for g, scores in zip(groups, score, strict=True)
        ]

    def close(self) -> None:
        self.room = 0


def scorer(room: int = 10_000) -> PatientScorer:
    return PatientScorer(lambda settings: Frail(settings, room), ScoringSettings())


GROUPS = [
    EncodedGroup([1], [[1, 2], [3]]),
    EncodedGroup([1], [[4], [POISON, 1], [5]]),
    EncodedGroup([2], [[6]]),
    EncodedGroup([3], [[NAN], [7]]),
]


def logps(outcomes: list[list[object]]) -> list[list[float | None]]:
    return [[each.logps if isinstance(each, ResponseScore) else None for each in group] for group in outcomes]


def test_the_response_that_fails_is_found_and_the_rest_is_scored() -> None:
    made = scorer()
    outcomes = made.score(GROUPS)
    assert logps(outcomes) == [[-3, -3], [-4, None, -5], [-6], [None, -7]]
    assert outcomes[1][1] == Failure("RuntimeError: assertion in a kernel")
    assert outcomes[3][0] == Failure("the log-prob is nan")


def test_too_little_memory_halves_the_token_budget_and_goes_on() -> None:
    made = scorer(room=300)
    assert logps(made.score(GROUPS[:1])) == [[-3, -3]]
    assert made.batch_tokens == 256
    assert made.num_restarts == 2


def test_counts_live_on_when_the_engine_is_opened_again() -> None:
    made = scorer()
    made.score(GROUPS[:1])
    before = made.engine.counts.num_total
    made.score(GROUPS[1:2])
    assert made.engine.counts.num_total > before > 0


def test_a_response_for_which_no_step_is_small_enough_is_set_aside_and_the_others_keep_their_batches() -> None:
    made = scorer()
    assert logps(made.score(GROUPS[:1])) == [[-3, -3]]
    outcomes = made.score([EncodedGroup([1], [[4], [HUGE]]), EncodedGroup([2], [[6]])])
    assert logps(outcomes) == [[-4, None], [-6]]
    assert outcomes[0][1] == Failure("OutOfMemoryError: out of memory")
    assert made.batch_tokens is None


@pytest.mark.parametrize("token", [POISON, NAN, HUGE])
def test_an_engine_that_fails_on_everything_is_not_taken_for_bad_responses(token: int) -> None:
    groups = [EncodedGroup([1], [[token]]) for _ in range(20)]
    with pytest.raises(BrokenEngineError, match=r"frail \(float32\) fails on every response: "):
        scorer().score(groups)


@pytest.mark.parametrize("token", [POISON, NAN])
def test_an_engine_that_breaks_on_the_way_is_not_taken_for_bad_responses(token: int) -> None:
    made = scorer()
    made.score(GROUPS[:1])
    with pytest.raises(BrokenEngineError, match=r"fails on \d+ prompts in a row"):
        made.score([EncodedGroup([number], [[token]]) for number in range(20)])
    assert made.num_restarts < 20 or token == NAN


def test_one_prompt_with_many_bad_responses_is_no_broken_engine() -> None:
    made = scorer()
    made.score(GROUPS[:1])
    assert logps(made.score([EncodedGroup([1], [[POISON]] * 12)])) == [[None] * 12]
    assert logps(made.score([EncodedGroup([1], [[NAN]] * 12)])) == [[None] * 12]


def test_an_engine_that_cannot_be_opened_again_is_named() -> None:
    opened = []

    def opening(settings: ScoringSettings) -> Frail:
        opened.append(settings)
        if len(opened) > 1:
            raise RuntimeError("no device")
        return Frail(settings, 10_000)

    with (
        closing(PatientScorer(opening, ScoringSettings())) as made,
        pytest.raises(EngineError, match="engine frail failed and cannot be opened again: RuntimeError: no device"),
    ):
        made.score(GROUPS)


def test_work_that_failed_is_not_counted_twice() -> None:
    made = scorer()
    made.score(GROUPS[:3])
    assert made.engine.counts.num_total == 3 + 2 + 2 + 2 + 2  # prompt and response of all but POISON
    assert made.engine.counts.saving_realised <= 1
