"""Keep going: halve the batch when memory runs out, and find the one response that makes an engine fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from curation.scoring.engine import Engine, ResponseScore
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError, WinnowError
from schemas.tokens import EncodedGroup

MIN_BATCH_TOKENS = 64
_MAX_FAILURES_IN_A_ROW = 8  # when that many responses fail and none is scored, it is the engine and not the responses
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Failure:
    """A response that no engine call could score, with the error."""

    error: str


Outcome = ResponseScore | Failure


class BrokenEngineError(EngineError):
    """An engine fails on one prompt after the other, so that the fault is its own and not theirs."""


class PatientScorer:
    """An engine that is opened again after a failure, with smaller batches when memory ran out.

    Attributes:
        engine: the engine that is open now.
        batch_tokens: the budget it was opened with; None for the engine's own.
        num_restarts: how often it was opened again.
    """

    def __init__(self, opening: Callable[[ScoringSettings], Engine], settings: ScoringSettings) -> None:
        self._opening = opening
        self._settings = settings
        self._at_start = settings
        self.engine = opening(settings)
        self.num_restarts = 0
        self._has_scored = False
        self._num_failed = 0
        self._failed_prompts: set[tuple[int, ...]] = set()

    @property
    def batch_tokens(self) -> int | None:
        """Tokens in one forward pass; None for the engine's own choice."""
        return self._settings.batch_tokens

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        """Scores, with a :class:`Failure` for each response that fails on its own or has no finite log-prob.

        Raises:
            BrokenEngineError: the engine fails on everything, or on several prompts in a row.
            EngineError: it cannot be opened again.
        """
        self._at_start = self._settings
        return self._score(groups) if groups else []

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _score(self, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        problem: Exception | None = None
        try:
            outcomes = self._try(groups)
        except WinnowError:
            raise
        except Exception as error:  # noqa: BLE001 - any failure of an engine is bisected, and ends as a named error
            problem = error.with_traceback(None)  # its frames would keep the batch in memory while a smaller one runs
        if problem is not None:
            return self._after(problem, groups)
        self._note(groups, outcomes)
        return outcomes

    def _try(self, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        """Scores of one call. One that is not finite is computed again alone: it may have a NaN from its siblings."""
        outcomes = [[_checked(score) for score in scores] for scores in self.engine.score(groups)]
        for group, found in zip(groups, outcomes, strict=True):
            for index, outcome in enumerate(found):
                if isinstance(outcome, Failure) and len(found) > 1:
                    alone = EncodedGroup(group.prompt_ids, [group.response_ids[index]])
                    found[index] = _checked(self.engine.score([alone])[0][0])
        return outcomes

    def _note(self, groups: Sequence[EncodedGroup], outcomes: Sequence[Sequence[Outcome]]) -> None:
        """Keep track of prompts in a row of which no response could be scored.

        Raises:
            BrokenEngineError: there are too many.
        """
        failures = [each for group in outcomes for each in group if isinstance(each, Failure)]
        if any(isinstance(each, ResponseScore) for group in outcomes for each in group):
            self._has_scored = True
            self._failed_prompts.clear()
            return
        self._num_failed += len(failures)
        self._failed_prompts |= {tuple(group.prompt_ids) for group in groups if group.response_ids}
        in_a_row = len(self._failed_prompts) if self._has_scored else self._num_failed
        if in_a_row >= _MAX_FAILURES_IN_A_ROW:
            what = f"{in_a_row} prompts in a row" if self._has_scored else "every response"
            info = self.engine.info
            raise BrokenEngineError(
                f"engine {info.engine} ({info.dtype}) fails on {what}: {failures[-1].error}",
                mend="try another --engine or --dtype; what is scored stays, and the next run goes on behind it",
            )

    def _after(self, error: Exception, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        is_memory = is_out_of_memory(error)
        if is_memory and (self.batch_tokens or self.engine.batch_tokens) // 2 >= MIN_BATCH_TOKENS:
            self._halve_batch()
            return self._score(groups)
        parts = _halves(groups)
        if parts is not None:
            self._reopen()
            one, other = (self._score(part) for part in parts)
            return [*one, *other] if len(groups) > 1 else [[*one[0], *other[0]]]
        if is_memory and self._has_scored:
            self._settings = self._at_start  # the others need not go on in the smallest steps
        self._reopen()
        outcomes: list[list[Outcome]] = [[Failure(f"{type(error).__name__}: {error}")]]
        self._note(groups, outcomes)
        return outcomes

    def _halve_batch(self) -> None:
        now = self.batch_tokens or self.engine.batch_tokens
        self._settings = self._settings.model_copy(update={"batch_tokens": now // 2})
        self._reopen()

    def _reopen(self) -> None:
        name, counts = self.engine.info.engine, self.engine.counts
        try:
            self.engine.close()
            self.engine = self._opening(self._settings)
        except WinnowError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise EngineError(
                f"engine {name} failed and cannot be opened again: {text}", mend="run the same command again"
            ) from error
        self.engine.counts = counts
        self.num_restarts += 1


def _halves(groups: Sequence[EncodedGroup]) -> tuple[Sequence[EncodedGroup], Sequence[EncodedGroup]] | None:
    """Half of the groups and the rest, or the same of a single group's responses; None for a single response."""
    if len(groups) > 1:
        half = len(groups) // 2
        return groups[:half], groups[half:]
    (group,) = groups
    half = len(group.response_ids) // 2
    if half == 0:
        return None
    one, other = (EncodedGroup(group.prompt_ids, ids) for ids in (group.response_ids[:half], group.response_ids[half:]))
    return [one], [other]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY_SIGNS)


def _checked(score: ResponseScore) -> Outcome:
    return score if math.isfinite(score.logps) else Failure(f"the log-prob is {score.logps}")
