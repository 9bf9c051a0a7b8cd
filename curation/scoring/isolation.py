"""Keep going: halve the batch when memory runs out, and find the one response that makes an engine fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from curation.scoring.engine import Engine, ResponseScore
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError, WinnowError
from schemas.tokens import EncodedGroup

MIN_BATCH_TOKENS = 64
_MAX_LONE_FAILURES = 8  # when that many fail and none was ever scored, it is the engine and not the responses
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Failure:
    """A response that no engine call could score, with the error."""

    error: str


Outcome = ResponseScore | Failure


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
        self.engine = opening(settings)
        self.num_restarts = 0
        self._num_scored = 0
        self._num_failed = 0

    @property
    def batch_tokens(self) -> int | None:
        """Tokens in one forward pass; None for the engine's own choice."""
        return self._settings.batch_tokens

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        """Scores, with a :class:`Failure` for each response that fails on its own.

        Raises:
            EngineError: the engine fails on everything, or memory does not suffice for a single response.
        """
        if not groups:
            return []
        try:
            scores = self.engine.score(groups)
        except WinnowError:
            raise
        except Exception as error:  # noqa: BLE001 - any failure of an engine is bisected, and ends as a named error
            return self._after(error, groups)
        self._num_scored += sum(map(len, scores))
        return [[_checked(score) for score in group] for group in scores]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _after(self, error: Exception, groups: Sequence[EncodedGroup]) -> list[list[Outcome]]:
        if is_out_of_memory(error):
            self._shrink(error)
            return self.score(groups)
        self._reopen()
        if len(groups) > 1:
            half = len(groups) // 2
            return self.score(groups[:half]) + self.score(groups[half:])
        (group,) = groups
        if len(group.response_ids) > 1:
            half = len(group.response_ids) // 2
            parts = (group.response_ids[:half], group.response_ids[half:])
            return [[each for ids in parts for each in self.score([EncodedGroup(group.prompt_ids, ids)])[0]]]
        self._num_failed += 1
        text = f"{type(error).__name__}: {error}"
        if self._num_scored == 0 and self._num_failed >= _MAX_LONE_FAILURES:
            raise EngineError(f"engine {self.engine.info.engine} fails on every response: {text}") from error
        return [[Failure(text)]]

    def _shrink(self, error: Exception) -> None:
        """Open the engine again with half the token budget of a forward pass."""
        now = self.batch_tokens or self.engine.batch_tokens
        if now // 2 < MIN_BATCH_TOKENS:
            raise EngineError(
                f"memory does not suffice for {now} tokens at once: {error}",
                mend="use a smaller model or a larger machine",
            ) from error
        self._settings = self._settings.model_copy(update={"batch_tokens": now // 2})
        self._reopen()

    def _reopen(self) -> None:
        counts = self.engine.counts
        self.engine.close()
        self.engine = self._opening(self._settings)
        self.engine.counts = counts
        self.num_restarts += 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY_SIGNS)


def _checked(score: ResponseScore) -> Outcome:
    if score.logps != score.logps or score.logps in (float("inf"), float("-inf")):
        return Failure(f"the log-prob is {score.logps}")
    return score
