"""One bad response is found and set aside, and too little memory halves the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from curation.scoring.engine import EngineInfo, ResponseScore, TokenCounts
from curation.scoring.isolation import Failure, PatientScorer
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup

POISON, NAN = 666, 667


class Frail:
    """Scores a response by the sum of its tokens, fails on POISON, and has memory for ``room`` tokens."""

    info = EngineInfo("frail", "none", "1", "float32", None, "cpu")
    max_length = 1000

    def __init__(self, settings: ScoringSettings, room: int) -> None:
        self.batch_tokens = settings.batch_tokens or 1024
        self.room = room
        self.counts = TokenCounts()

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        if self.batch_tokens > self.room:
            raise torch.OutOfMemoryError("out of memory")
        if any(POISON in ids for group in groups for ids in group.response_ids):
            raise RuntimeError("assertion in a kernel")
        self.counts.add_groups(groups)
        score = [[ResponseScore(-float(sum(ids)), len(ids)) for ids in group.response_ids] for group in groups]
        return [
            [replace(s, logps=float("nan")) if NAN in ids else s for s, ids in zip(scores, g.response_ids, strict=True)]
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


def test_no_memory_for_a_single_step_is_an_error_with_a_mend() -> None:
    with pytest.raises(EngineError, match="memory does not suffice"):
        scorer(room=1).score(GROUPS)


def test_an_engine_that_fails_on_everything_is_not_taken_for_bad_responses() -> None:
    groups = [EncodedGroup([1], [[POISON]]) for _ in range(20)]
    with pytest.raises(EngineError, match="fails on every response: RuntimeError: assertion"):
        scorer().score(groups)
